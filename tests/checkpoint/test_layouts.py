"""Recognising and loading every layout, alone and inside other dicts and models."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from swin_backbone import VARIANTS, SwinTransformer, load_pretrained
from swin_backbone.checkpoint.convert import find_backbone, from_native
from swin_backbone.checkpoint.layouts import SWIN_V2, WRITABLE
from swin_backbone.errors import InputError
from tests import fixtures
from tests.checkpoint.layouts import LAYOUTS, Sizes, layout_state
from tests.helpers import relative_error, tiny_backbone

SMALL = Sizes(16, (2, 2, 2, 2), (1, 2, 4, 8), window=4, tokens=64)
CASES = [(layout, version) for layout, (_, versions, _) in LAYOUTS.items() for version in versions]
NORMS = tuple(f'norm{i}.{kind}' for i in range(4) for kind in ('weight', 'bias'))


def small_backbone(version: int = 1, **options: Any) -> SwinTransformer:
    return tiny_backbone(version=version, window_size=4, **options)


@torch.no_grad()
def assert_maps(path: Path, config: dict[str, Any], image: Tensor, expected: list[Tensor]) -> None:
    """Check that a file loads completely into a backbone built with ``config`` and gives the expected maps."""
    model = SwinTransformer(None, **config, drop_path_rate=0.0).eval()
    report = load_pretrained(model, path)
    assert report.complete and not report.warnings and not report.adapted
    for ours, reference in zip(model(image), expected, strict=True):
        assert relative_error(ours, reference) < 1e-5


@pytest.mark.parametrize('name', fixtures.NAMES)
def test_fixtures_give_the_maps_of_their_implementation(name: str, tmp_path: Path) -> None:
    fixture = fixtures.read(name)
    config = dict(fixture.config)
    image = fixtures.image_of(config.pop('image'))
    assert_maps(fixtures.write_checkpoint(name, fixture, tmp_path), config, image, fixture.outs)


@pytest.mark.parametrize('name', fixtures.NAMES)
def test_larger_fixtures_give_the_maps_of_their_implementation(name: str, fixtures_dir: Path) -> None:
    folder = fixtures_dir / 'dialects' / name
    known = json.loads((folder / 'config.json').read_text())
    names = (
        'embed_dim',
        'depths',
        'num_heads',
        'version',
        'window_size',
        'pretrain_img_size',
        'pretrained_window_sizes',
    )
    expected = load_file(folder / 'expected.safetensors')
    config = {option: known[option] for option in names if option in known}
    outs = [expected[f'out{i}'] for i in range(4)]
    assert_maps(next(folder.glob('checkpoint.*')), config, expected['input'], outs)


@pytest.mark.parametrize('version', [1, 2])
@pytest.mark.parametrize('variant', ['tiny', 'small', 'base', 'large'])
def test_full_size_files_load_completely_in_every_layout(variant: str, version: int) -> None:
    known = VARIANTS[variant]
    sizes = Sizes(known.embed_dim, known.depths, known.num_heads, window=7 if version == 1 else 8)
    with torch.device('meta'):
        model = SwinTransformer(variant, version=version)
    for layout, (_, versions, dialect) in LAYOUTS.items():
        if version not in versions:
            continue
        report = load_pretrained(model, layout_state(layout, sizes, version, 'meta'))
        assert (report.dialect, report.version) == (dialect, version), layout
        assert report.complete and report.new == NORMS and not report.adapted, layout
        assert len(report.loaded) == report.total - len(NORMS)


@pytest.mark.parametrize(('layout', 'version'), CASES)
def test_every_parameter_gets_its_own_weights(layout: str, version: int) -> None:
    model = small_backbone(version)
    state = layout_state(layout, SMALL, version)
    load_pretrained(model, state)
    sums = [round(p.double().sum().item(), 6) for name, p in model.named_parameters() if name not in NORMS]
    assert len(set(sums)) == len(sums)
    sources = {round(v.double().sum().item(), 6) for v in state.values()}
    shared = sum(value in sources for value in sums)
    merged = (
        8 * 2
        if layout.startswith(('transformers', 'maskformer'))
        else 8
        if layout.startswith('torchvision') and version == 2
        else 0
    )
    assert shared >= len(sums) - 2 * merged


@pytest.mark.parametrize('version', [1, 2])
def test_merging_weights_in_unfold_order_are_reordered(version: int) -> None:
    """Patch merging with ``nn.Unfold`` and a file's weights equals the backbone's merging layer with loaded weights."""
    state = layout_state('mm', SMALL, version)
    model = small_backbone(version)
    load_pretrained(model, state)
    stem = f'backbone.stages.{version - 1}.downsample'
    x = torch.randn(1, 6, 6, 16)
    unfolded = nn.functional.unfold(x.permute(0, 3, 1, 2), 2, stride=2).transpose(1, 2)
    norm = state[f'{stem}.norm.weight'], state[f'{stem}.norm.bias']
    reduction = state[f'{stem}.reduction.weight']
    if version == 1:
        expected = nn.functional.layer_norm(unfolded, unfolded.shape[-1:], *norm) @ reduction.t()
    else:
        expected = nn.functional.layer_norm(unfolded @ reduction.t(), reduction.shape[:1], *norm)
    ours = model.layers[0].downsample(x)
    assert relative_error(ours.reshape(1, 9, 32), expected) < 1e-5


def test_mmdet_weights_give_the_maps_of_mmdet() -> None:
    stock_class = pytest.importorskip('mmdet.models.backbones').SwinTransformer
    stock = stock_class(embed_dims=16, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8), window_size=4, drop_path_rate=0.0)
    with torch.no_grad():
        for parameter in stock.parameters():
            parameter.normal_(std=0.3)
    stock.eval()
    state = {f'backbone.{name}': value for name, value in stock.state_dict().items()}
    model = small_backbone().eval()
    report = load_pretrained(model, {'meta': {}, 'state_dict': {**state, 'neck.conv.weight': torch.ones(1)}})
    assert report.dialect == 'mmdet' and not report.new
    image = torch.randn(1, 3, 91, 118)
    with torch.no_grad():
        for ours, reference in zip(model(image), stock(image), strict=True):
            assert relative_error(ours, reference) < 1e-5


def rekeyed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


def wrappings(state: dict[str, Tensor]) -> dict[str, dict[str, Any]]:
    other = {key: torch.zeros_like(value) for key, value in state.items()}
    return {
        'plain': state,
        'model': {'model': state, 'optimizer': {'state': {0: {'exp_avg': torch.ones(2)}}}, 'epoch': 3},
        'state_dict': {'state_dict': state, 'meta': {'CLASSES': ('a',)}},
        'data parallel': {'model': rekeyed(state, 'module.')},
        'detector': {'state_dict': {**rekeyed(state, 'backbone.'), 'neck.conv.weight': torch.ones(2)}},
        'detector in parallel': {'state_dict': rekeyed(state, 'module.backbone.')},
        'compiled': rekeyed(state, '_orig_mod.'),
        'MoBY': {'model': {**rekeyed(state, 'encoder.'), **rekeyed(other, 'encoder_k.'), 'queue': torch.ones(2)}},
        'SimMIM': {'model': {**rekeyed(state, 'encoder.'), 'encoder.mask_token': torch.ones(1, 1, 16)}},
        'timm average': {'state_dict': other, 'state_dict_ema': state},
        'ConvNeXt average': {'model': other, 'model_ema': state},
        'DINO': {'student': rekeyed(other, 'module.backbone.'), 'teacher': rekeyed(state, 'backbone.')},
        'mmengine average': {
            'state_dict': state,
            'ema_state_dict': {'steps': torch.ones(()), **rekeyed(other, 'module.')},
        },
        'mmcv average': {
            'state_dict': {
                **rekeyed(state, 'backbone.'),
                **{f'ema_backbone_{key.replace(".", "_")}': value for key, value in other.items()},
            }
        },
        'semi-supervised': {
            'state_dict': {**rekeyed(state, 'teacher.backbone.'), **rekeyed(other, 'student.backbone.')}
        },
        'average alone': rekeyed(state, 'ema_model.module.'),
    }


@pytest.mark.parametrize('wrapping', wrappings({}))
def test_backbone_is_found_inside(wrapping: str) -> None:
    state = small_backbone().state_dict()
    model = small_backbone()
    report = load_pretrained(model, wrappings(state)[wrapping])
    assert report.complete and not report.new
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize('layout', ['mm', 'transformers', 'torchvision', 'timm'])
def test_other_layouts_are_found_inside_a_checkpoint(layout: str) -> None:
    state = layout_state(layout, SMALL, 1)
    plain = small_backbone()
    wrapped = copy.deepcopy(plain)
    load_pretrained(plain, state)
    load_pretrained(wrapped, {'state_dict': rekeyed(state, 'module.'), 'epoch': 1})
    for a, b in zip(plain.parameters(), wrapped.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize('prefix', ['', 'swin.', 'swinv2.', 'backbone.', 'model.'])
@pytest.mark.parametrize('version', [1, 2])
def test_transformers_classes_load_with_any_prefix(prefix: str, version: int) -> None:
    state = layout_state('transformers', SMALL, version)
    own = 'swin.' if version == 1 else 'swinv2.'
    body = {key.removeprefix(own): value for key, value in state.items() if key.startswith(own)}
    norms = {
        f'hidden_states_norms.stage{i + 1}.{kind}': torch.randn(16 * 2**i)
        for i in range(4)
        for kind in ('weight', 'bias')
    }
    model = small_backbone(version)
    assert load_pretrained(model, rekeyed(body, prefix)).new == NORMS
    # Transformers 5 has the norms of its backbone class outside the network, earlier versions inside.
    for place in {prefix, prefix.rpartition('.')[0].rpartition('.')[0]}:
        model = small_backbone(version)
        assert not load_pretrained(model, {**rekeyed(body, prefix), **rekeyed(norms, place)}).new
        assert torch.equal(model.norm3.bias, norms['hidden_states_norms.stage4.bias'])


def test_two_backbones_in_one_file_are_an_error() -> None:
    state = small_backbone().state_dict()
    both = {**rekeyed(state, 'left.'), **rekeyed(state, 'right.')}
    with pytest.raises(InputError, match=r"2 Swin backbones, under 'left\.', 'right\.'"):
        load_pretrained(small_backbone(), both)


@pytest.mark.parametrize('checkpoint', [{}, {'model': {}}, {'conv1.weight': torch.ones(1)}, {'epoch': 3}])
def test_checkpoints_without_a_swin_backbone_are_an_error(checkpoint: dict[str, Any]) -> None:
    with pytest.raises(InputError, match='contains no Swin backbone'):
        load_pretrained(small_backbone(), checkpoint)


@pytest.mark.parametrize(('layout', 'version'), CASES)
@pytest.mark.parametrize('to', WRITABLE)
def test_round_trip_through_another_layout_is_the_identity(layout: str, version: int, to: str) -> None:
    if version == 2 and SWIN_V2 in WRITABLE[to].unsupported:
        pytest.skip('V1 only')
    native = find_backbone(layout_state(layout, SMALL, version), 'it').state
    back = find_backbone(from_native(native, WRITABLE[to]), 'it')
    assert back.layout == WRITABLE[to].name and back.version == version
    assert back.state.keys() == native.keys() - ({'norm.weight', 'norm.bias'} if 'head.weight' not in native else set())
    assert all(torch.equal(back.state[name], native[name]) for name in back.state)
