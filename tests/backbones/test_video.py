"""Video Swin Transformer: comparison with torchvision, weights in every layout, compilation and export."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from swin_backbone import SwinTransformer, VideoSwinTransformer, load_pretrained
from swin_backbone.attention.position_encoding import relative_position_index
from swin_backbone.attention.window_3d import VolumePlan
from swin_backbone.backbones.video_classifier import ClipClassifier
from swin_backbone.errors import InputError
from tests.helpers import TINY, randomize, relative_error

SIZES: dict[str, Any] = dict(
    variant=None, embed_dim=16, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8), drop_path_rate=0.0
)
CLIPS = [(8, 64, 64), (5, 61, 83), (1, 32, 32), (20, 67, 37)]
"""Frames, rows and columns: windows clipped along one, two and three axes; odd sizes."""


def small(**overrides: Any) -> VideoSwinTransformer:
    """Build a small backbone with random weights."""
    model = VideoSwinTransformer(**{**SIZES, **overrides})
    randomize(model)
    return model


def torchvision_model(window: tuple[int, ...] = (8, 7, 7)) -> Any:
    """Build the same network from torchvision."""
    module = pytest.importorskip('torchvision.models.video.swin_transformer')
    model = module.SwinTransformer3d(
        patch_size=[2, 4, 4],
        embed_dim=16,
        depths=[2, 2, 2, 2],
        num_heads=[1, 2, 4, 8],
        window_size=list(window),
        stochastic_depth_prob=0.0,
        num_classes=10,
    )
    return randomize(model).eval()


def stages_of(model: Any, clip: Tensor) -> Iterator[Tensor]:
    """Yield the output of each stage of torchvision's network, ``[B, T, H, W, C]``."""
    x = model.pos_drop(model.patch_embed(clip))
    for number, part in enumerate(model.features):
        x = part(x)
        if number % 2 == 0:
            yield x


def original(state: dict[str, Tensor], norm: str = 'norm', end: str = 'cls_head.fc_cls') -> dict[str, Any]:
    """Convert a state dict of torchvision to the layout of the original code or mmaction2."""
    out: dict[str, Tensor] = {}
    for name, value in state.items():
        parts = name.replace('mlp.0', 'mlp.fc1').replace('mlp.3', 'mlp.fc2').split('.')
        if parts[0] == 'features':
            place = int(parts[1])
            inner = ['downsample'] if place % 2 else ['blocks']
            parts = ['layers', str(place // 2), *inner, *parts[2:]]
        name = '.'.join(parts)
        name = f'{norm}.{parts[-1]}' if parts[0] == 'norm' else name
        out[f'{end}.{parts[-1]}' if parts[0] == 'head' else f'backbone.{name}'] = value
    return {'state_dict': out, 'meta': {'epoch': 30}}


@pytest.mark.parametrize('size', CLIPS)
@pytest.mark.parametrize('backend', ['auto', 'eager'])
def test_maps_and_gradients_equal_torchvision(size: tuple[int, ...], backend: str) -> None:
    reference = torchvision_model().double()
    ours = small(backend=backend).double().eval()
    load_pretrained(ours, reference.state_dict())
    clip = torch.randn(2, 3, *size, dtype=torch.float64)
    norms = [*(ours.get_submodule(f'norm{i}') for i in range(3)), reference.norm]
    expected = [norm(x).movedim(-1, 1) for norm, x in zip(norms, stages_of(reference, clip), strict=True)]
    found = ours(clip)
    assert max(map(relative_error, found, expected)) < 1e-11
    assert tuple(found[0].shape[2:]) == (-(-size[0] // 2), -(-size[1] // 4), -(-size[2] // 4))
    names = dict(ours.named_parameters())
    both = {f'layers.{i}.blocks.{j}.': f'features.{2 * i}.{j}.' for i in range(4) for j in range(2)}
    table, weight = 'attn.relative_position_bias_table', 'attn.qkv.weight'
    probe = torch.randn_like(found[3])
    parameters = [names['patch_embed.proj.weight'], *(names[stem + kind] for stem in both for kind in (table, weight))]
    other = dict(reference.named_parameters())
    reference_parameters = [
        other['patch_embed.proj.weight'],
        *(other[stem + k] for stem in both.values() for k in (table, weight)),
    ]
    pairs = (
        torch.autograd.grad(found[3], parameters, probe),
        torch.autograd.grad(expected[3], reference_parameters, probe),
    )
    assert max(map(relative_error, *pairs)) < 1e-9
    with torch.no_grad():
        assert max(map(relative_error, ours(clip), found)) < 1e-11


@pytest.mark.parametrize('window', [(8, 7, 7), (16, 7, 7)])
@pytest.mark.parametrize('layout', ['torchvision', 'original', 'mmaction2'])
def test_video_classifiers_load_strictly_and_give_equal_logits(layout: str, window: tuple[int, int, int]) -> None:
    reference = torchvision_model(window)
    state: Any = reference.state_dict()
    if layout != 'torchvision':
        state = original(state, 'norm3' if layout == 'mmaction2' else 'norm')
    model = ClipClassifier(small(window_size=window), 10).eval()
    report = model.load(state)
    assert report.complete and set(report.new) == {f'norm{i}.{kind}' for i in range(3) for kind in ('weight', 'bias')}
    assert 'Video Swin Transformer)' in str(report)
    clip = torch.randn(2, 3, 7, 50, 41)
    with torch.no_grad():
        assert relative_error(model(clip), reference(clip)) < 1e-4


def test_state_dict_of_a_video_classifier_loads() -> None:
    reference = torchvision_model()
    model = small()
    model.load_state_dict(reference.state_dict())
    assert torch.equal(model.get_submodule('norm3').weight, reference.norm.weight)
    small().load_state_dict(model.state_dict())
    assert load_pretrained(small(), model.state_dict()).new == ()


@pytest.mark.parametrize('window', [7, 4])
def test_image_weights_are_inflated(window: int) -> None:
    """A clip of equal frames is embedded like the image, and biases are the same for every offset in time."""
    image_model = randomize(SwinTransformer(**{**TINY, 'window_size': window}))
    state = {name: value for name, value in image_model.state_dict().items() if not name.startswith('norm')}
    extra = dict(zip(('norm.weight', 'norm.bias'), torch.randn(2, 128), strict=True))
    model = small()
    report = load_pretrained(model, {'model': {**state, **extra, 'head.weight': torch.ones(3, 128)}})
    assert report.complete and report.adapted['patch_embed.proj.weight'] == 'inflated over 2 frames'
    assert torch.equal(model.get_submodule('norm3').bias, extra['norm.bias'])
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        frames = model.patch_embed(image[:, :, None].repeat(1, 1, 4, 1, 1))
        torch.testing.assert_close(frames, image_model.patch_embed(image)[:, None].repeat(1, 2, 1, 1, 1))
    table = model.layers[0].blocks[0].attn.relative_position_bias_table.view(15, 169, 1)
    assert torch.equal(table, table[:1].expand_as(table))
    if window == 7:
        assert torch.equal(table[0], image_model.layers[0].blocks[0].attn.relative_position_bias_table)


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (
            lambda: small(window_size=(16, 7, 7)),
            r'2535 offsets in the file, 5239 in the backbone: use window_size=\(8, 7, 7\)',
        ),
        (lambda: small(depths=(2, 2, 6, 2)), r'variant=None, embed_dim=16, depths=\(2, 2, 2, 2\)'),
        (
            lambda: SwinTransformer('tiny'),
            r'contains a Video Swin .* Load it into swin_backbone\.VideoSwinTransformer\.',
        ),
    ],
)
def test_mismatched_weights_raise_input_error(make: Any, message: str) -> None:
    model = make()
    before = model.patch_embed.proj.weight.clone()
    with pytest.raises(InputError, match=message):
        load_pretrained(model, small().state_dict())
    assert torch.equal(model.patch_embed.proj.weight, before)


@pytest.mark.parametrize(
    ('end', 'message'),
    [('cls_head.fc_rgb', 'has no complete head'), ('cls_head.fc_cls', 'has a head of 10 classes, .* has 4 classes')],
)
def test_mismatched_heads_raise_input_error(end: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ClipClassifier(small(), 4).load(original(torchvision_model().state_dict(), end=end))


@pytest.mark.parametrize('clipped', [(8, 7, 7), (3, 7, 7), (8, 4, 7), (2, 3, 5), (1, 1, 1)])
def test_biases_of_clipped_windows_follow_exact_offsets(clipped: tuple[int, int, int]) -> None:
    """The original code uses the first rows of the index of a full window; ``exact_offsets`` uses the true offsets."""
    window, count = (8, 7, 7), clipped[0] * clipped[1] * clipped[2]

    def index(sides: tuple[int, int, int]) -> Tensor:
        places = torch.stack(torch.meshgrid(*map(torch.arange, sides), indexing='ij')).flatten(1)
        offsets = places[:, :, None] - places[:, None, :]
        return ((offsets[0] + 7) * 13 + offsets[1] + 6) * 13 + offsets[2] + 6

    for exact in (False, True):
        attention = small(exact_offsets=exact).layers[1].blocks[0].attn
        wanted = index(clipped) if exact else index(window)[:count, :count]
        expected = attention.relative_position_bias_table[wanted].permute(2, 0, 1)
        assert torch.equal(attention.bias_within(clipped), expected)


def test_exact_offsets_change_only_small_maps() -> None:
    model, exact = small(out_indices=(0, 1)), small(out_indices=(0, 1), exact_offsets=True)
    exact.load_state_dict(model.state_dict())
    with torch.no_grad():
        large, clip = torch.randn(1, 3, 4, 60, 64), torch.randn(1, 3, 4, 48, 64)
        assert all(map(torch.equal, model(large), exact(large)))
        assert torch.equal(model(clip)[0], exact(clip)[0]) and not torch.allclose(model(clip)[1], exact(clip)[1])


def test_windows_of_one_frame_equal_the_image_backbone() -> None:
    """There is one frame, and all maps are larger than a window, so that no window is clipped."""
    image_model = randomize(SwinTransformer(**{**TINY, 'window_size': 4})).eval()
    model = small(window_size=(1, 4, 4), patch_size=(1, 4, 4)).eval()
    load_pretrained(model, image_model.state_dict())
    image = torch.randn(1, 3, 189, 250)
    with torch.no_grad():
        for one, other in zip(model(image[:, :, None]), image_model(image), strict=True):
            assert relative_error(one[:, :, 0], other) < 1e-5


def test_mask_equals_that_of_the_original_code() -> None:
    plan = VolumePlan((6, 5, 4), (4, 2, 4))
    assert (plan.window, plan.shift, plan.padded_size) == ((4, 2, 4), (2, 1, 0), (8, 6, 4))
    regions, number = torch.zeros(8, 6, 4), 0
    for frames in (slice(0, -4), slice(-4, -2), slice(-2, None)):
        for rows in (slice(0, -2), slice(-2, -1), slice(-1, None)):
            regions[frames, rows], number = number, number + 1
    windows = regions.view(2, 4, 3, 2, 1, 4).permute(0, 2, 4, 1, 3, 5).reshape(6, 32)
    expected = (windows[:, None, :] != windows[:, :, None]) * -100.0
    assert torch.equal(plan.mask(torch.ones(1)), expected)


def test_with_cp_frozen_stages_and_drop_path() -> None:
    model = small(with_cp=True, frozen_stages=1, drop_path_rate=0.4, out_indices=(0, 2)).train()
    plain = small(out_indices=(0, 2))
    plain.load_state_dict(model.state_dict())
    rates = [block.drop_path.rate for stage in model.layers for block in stage.blocks]
    assert rates == pytest.approx([0.4 * i / 7 for i in range(6)])
    for stage in model.layers:
        for block in stage.blocks:
            block.drop_path.rate = 0.0
    clip = torch.randn(1, 3, 4, 40, 36)
    for one, other in zip(model(clip), plain(clip), strict=True):
        torch.testing.assert_close(one, other)
    sum(one.sum() for one in model(clip)).backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert not any(name.startswith(('patch_embed', 'layers.0.blocks', 'norm0')) for name in trained)
    assert {'layers.1.blocks.1.attn.relative_position_bias_table', 'norm2.bias'} <= trained
    assert model.get_layer_depth('layers.1.blocks.1.attn.qkv.weight') == (4, 8)
    assert len(model.no_weight_decay()) == 6


def test_attention_dropout_applies_and_has_gradients() -> None:
    for backend in ('auto', 'eager'):
        model = small(attn_drop_rate=0.5, backend=backend, out_indices=(0,)).train()
        clip = torch.randn(1, 3, 4, 40, 36)
        assert not torch.equal(model(clip)[0], model(clip)[0])
        model(clip)[0].sum().backward()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(variant='huge'), 'unknown variant .* use one of tiny, small, base, large, or None with sizes'),
        (dict(window_size=7), r'window_size must be three positive integers \(frames, rows, columns\), got 7'),
        (dict(patch_size=(2, 4, 5)), 'patch_size must have equal rows and columns'),
        (dict(backend='triton'), "backend='triton' does not support clips: use one of auto, sdpa, eager"),
    ],
)
def test_invalid_options_raise_input_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message), torch.device('meta'):
        VideoSwinTransformer(**options)


@pytest.mark.parametrize('shape', [(1, 3, 32, 32), (1, 4, 2, 32, 32), (1, 3, 0, 32, 32)])
def test_clips_of_wrong_shapes_raise_input_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match='expected a clip '):
        small()(torch.zeros(shape))


@pytest.mark.parametrize(
    ('variant', 'window', 'classes', 'published'),
    [
        ('tiny', (8, 7, 7), 400, 28_158_070),
        ('small', (8, 7, 7), 400, 49_816_678),
        ('base', (8, 7, 7), 400, 88_048_984),
        ('base', (16, 7, 7), 174, 88_800_000),
        ('large', (8, 7, 7), 400, 197_000_000),
    ],
)
def test_variants_have_the_published_sizes(
    variant: str, window: tuple[int, int, int], classes: int, published: int
) -> None:
    """The first three numbers are torchvision's; the others are published as 88.8M and 197M."""
    with torch.device('meta'):
        model = ClipClassifier(VideoSwinTransformer(variant, window_size=window, out_indices=(3,)), classes)
    count = sum(p.numel() for p in model.parameters())
    assert count == published if window[0] == 8 and variant != 'large' else abs(count / published - 1) < 0.005


def test_video_backbone_compiles_and_exports() -> None:
    torch.compiler.reset()
    model: nn.Module = small(depths=(2,), num_heads=(1,), out_indices=(0,)).eval()
    clip = torch.randn(1, 3, 4, 40, 36)
    with torch.no_grad():
        expected = model(clip)[0]
        compiled = torch.compile(model, fullgraph=True, backend='aot_eager')(clip)[0]
        exported = torch.export.export(model, (clip,)).module()(clip)[0]
    torch.testing.assert_close(compiled, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(exported, expected, rtol=1e-4, atol=1e-5)


def test_init_weights_initialises_memory_from_meta() -> None:
    with torch.device('meta'):
        model = VideoSwinTransformer(**SIZES)
    model.to_empty(device='cpu')
    model.init_weights()
    assert 0.01 < model.layers[0].blocks[0].attn.relative_position_bias_table.std() < 0.03
    assert model(torch.randn(1, 3, 2, 32, 32))[3].isfinite().all()


def test_biases_of_one_frame_equal_those_of_images() -> None:
    table = torch.randn(169, 2)
    model = small()
    attention = model.layers[1].blocks[0].attn
    attention.relative_position_bias_table.data = table.repeat(15, 1)
    bias = attention.bias_within((1, 7, 7))
    assert torch.equal(bias, table[relative_position_index((7, 7))].view(49, 49, 2).permute(2, 0, 1))


@pytest.mark.parametrize('name', ['VideoSwinTransformer', 'SwinMixer'])
def test_mmengine_builds_registered_backbones(name: str) -> None:
    registry = pytest.importorskip('mmengine.registry')
    with torch.device('meta'):
        model = registry.MODELS.build(dict(type=f'swin_backbone.{name}', out_indices=(0,)))
    assert type(model).__name__ == name and model.feature_info.channels() == [96]
