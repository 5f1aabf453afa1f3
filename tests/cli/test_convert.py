"""The command `convert`: round trips between layouts, files that other implementations load, and atomic writing."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from swin_backbone import cli, load_pretrained
from swin_backbone.checkpoint import export, read_checkpoint
from swin_backbone.checkpoint.export import convert_file
from swin_backbone.checkpoint.layouts import WRITABLE
from swin_backbone.errors import InputError
from tests.checkpoint.foreign import (
    SIZES,
    detectron2,
    distilled,
    random_norms,
    reference,
    saved,
    sharded,
    simmim,
    wrapped,
)
from tests.checkpoint.layouts import LAYOUTS, Sizes, coordinates, index, layout_state
from tests.helpers import relative_error, tiny_backbone

SMALL = Sizes(16, (2, 2, 2, 2), (1, 2, 4, 8), window=4, tokens=64)
# Layouts of the command -> layouts of tests/checkpoint/layouts.py.
LAYOUT_OF = {'original': 'original', 'mmdet': 'mm', 'timm': 'timm', 'torchvision': 'torchvision'}
LAYOUT_OF |= {'transformers': 'transformers', 'detectron2': 'detectron2', 'timm-features': 'timm_features'}
LAYOUT_OF |= {'transformers-memory': 'transformers_module', 'maskformer': 'maskformer'}
CASES = [(to, version) for to, layout in LAYOUT_OF.items() for version in LAYOUTS[layout][1]]
OLDER = ('original', 'mmdet', 'timm', 'torchvision', 'transformers')
OPTIONAL = ('relative_position_index', 'relative_coords_table', 'attn_mask')


def tool(*arguments: object, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the command and return its exit code."""
    monkeypatch.setattr(sys, 'argv', ['swin-backbone', 'convert', *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def save(folder: Path, state: dict[str, Any], name: str = 'source.pth') -> Path:
    torch.save(state, folder / name)
    return folder / name


def weights_of(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file without their container."""
    contents = read_checkpoint(path)
    return dict(contents.get('model', contents.get('state_dict', contents)))


def test_every_layout_is_tested() -> None:
    assert LAYOUT_OF.keys() == WRITABLE.keys()


@pytest.mark.parametrize(('to', 'version'), CASES)
@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_written_keys_equal_those_of_the_implementation(tmp_path: Path, to: str, version: int, suffix: str) -> None:
    source = save(tmp_path, {'model': layout_state('original', SMALL, version)})
    target = tmp_path / f'target{suffix}'
    convert_file(str(source), target, to)
    expected = layout_state(LAYOUT_OF[to], SMALL, version)
    ours = weights_of(target)
    if to != 'torchvision':
        expected = {name: value for name, value in expected.items() if not name.endswith(OPTIONAL)}
    if to == 'timm-features':  # feature networks have no classification head
        ours = {name: value for name, value in ours.items() if not name.startswith(('norm.', 'head.'))}
    assert {name: value.shape for name, value in ours.items()} == {
        name: value.shape for name, value in expected.items()
    }


@pytest.mark.parametrize(('start', 'version'), CASES)
@pytest.mark.parametrize('to', OLDER)
def test_round_trip_is_the_identity(tmp_path: Path, start: str, to: str, version: int) -> None:
    before = layout_state(LAYOUT_OF[start], SMALL, version)
    if (
        start == 'torchvision' and version == 2
    ):  # torchvision stores a key bias without effect, which other layouts do not have
        for name, value in before.items():
            if name.endswith('attn.qkv.bias'):
                value.chunk(3)[1].zero_()
    source = save(tmp_path, before)
    there, back = tmp_path / 'there.safetensors', tmp_path / 'back.pth'
    window = [4] if 'torchvision' in (to, start) else None
    convert_file(str(source), there, to, window_size=window)
    convert_file(str(there), back, start, window_size=window)
    after = weights_of(back)
    for name, value in before.items():
        if not name.endswith(OPTIONAL) or (start == 'torchvision' and name.endswith('index')):
            assert torch.equal(after[name], value), name


@pytest.mark.parametrize(('to', 'version'), CASES)
def test_round_trip_keeps_output_norms(tmp_path: Path, to: str, version: int) -> None:
    model, twin = (tiny_backbone(version=version, window_size=4) for _ in range(2))
    state = {f'backbone.{name}': value for name, value in model.state_dict().items()}
    source = save(tmp_path, {'meta': {}, 'state_dict': {**state, 'neck.weight': torch.ones(1)}})
    convert_file(str(source), tmp_path / 'target.pth', to, window_size=[4])
    report = load_pretrained(twin, tmp_path / 'target.pth')
    assert report.dialect == WRITABLE[to].name and not report.new
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in twin.state_dict().items())


SOURCES = {
    'detectron2 .pkl': (1, detectron2('backbone.bottom_up.', 4)),
    'shards': (1, sharded('.safetensors', 'model.safetensors.index.json')),
    'wrapped modules': (1, saved(wrapped)),
    'SimMIM V2': (2, saved(simmim)),
    'Feature Distillation': (2, saved(distilled)),
}


@pytest.mark.parametrize(
    ('name', 'to'), [(name, to) for name, (v, _) in SOURCES.items() for to, v2 in CASES if v == v2]
)
def test_every_readable_source_can_be_converted(tmp_path: Path, name: str, to: str) -> None:
    version, write = SOURCES[name]
    (tmp_path / 'source').mkdir()
    state = reference(version, shared=name == 'Feature Distillation')[0]
    source, target = write(tmp_path / 'source', {**state, **random_norms()}), tmp_path / 'target.safetensors'
    convert_file(str(source), target, to, window_size=[4])
    ours, expected = (tiny_backbone(**SIZES, version=version, out_indices=(0, 1, 2)) for _ in range(2))
    assert not load_pretrained(ours, target).new
    load_pretrained(expected, source)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), expected.parameters(), strict=True))


@pytest.mark.parametrize('target', ['original.pth', 'timm.safetensors'])
def test_round_trip_keeps_one_window_per_stage(tmp_path: Path, target: str) -> None:
    model = tiny_backbone(window_size=(3, 3, 4, 3))
    source = save(tmp_path, model.state_dict())
    convert_file(str(source), tmp_path / target, target.partition('.')[0])
    report = load_pretrained(tiny_backbone(window_size=(3, 3, 4, 3)), tmp_path / target)
    assert report.complete and not report.adapted
    for other in ('mmdet', 'torchvision', 'transformers', 'maskformer'):
        with pytest.raises(InputError, match=f'windows of several sizes, which {other} does not support'):
            convert_file(str(source), tmp_path / 'other.pth', other)


def test_transformers_loads_files_written_for_maskformer(tmp_path: Path) -> None:
    module = pytest.importorskip('transformers.models.maskformer.modeling_maskformer_swin')
    ours = tiny_backbone(**SIZES, out_indices=(0, 1, 2)).eval()
    convert_file(str(save(tmp_path, ours.state_dict())), tmp_path / 'target.safetensors', 'maskformer')
    stages = ['stage1', 'stage2', 'stage3']
    sizes = {option: list(value) if isinstance(value, tuple) else value for option, value in SIZES.items()}
    config = module.MaskFormerSwinConfig(image_size=128, drop_path_rate=0.0, out_features=stages, **sizes)
    expected = module.MaskFormerSwinBackbone(config).eval()
    missing, unexpected = expected.load_state_dict(load_file(tmp_path / 'target.safetensors'), strict=False)
    assert not unexpected and all(name.endswith('index') or name.startswith('model.layernorm') for name in missing)
    image = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        for a, b in zip(ours(image), expected(image).feature_maps, strict=True):
            assert relative_error(a, b) < 1e-5


@pytest.mark.parametrize('to', ['original', 'mmdet'])
def test_round_trip_keeps_norms_on_the_main_branch(tmp_path: Path, to: str) -> None:
    options = dict(variant='huge', version=2, depths=(6, 2, 2, 2))
    model, twin = tiny_backbone(**options), tiny_backbone(**options)
    convert_file(str(save(tmp_path, model.state_dict())), tmp_path / 'target.pth', to)
    assert not load_pretrained(twin, tmp_path / 'target.pth').new
    norm = twin.layers[0].blocks[5].norm3
    assert isinstance(norm, nn.LayerNorm) and torch.equal(norm.bias, model.layers[0].blocks[5].norm3.bias)


@pytest.mark.parametrize('to', ['original', 'mmdet', 'transformers'])
def test_round_trip_keeps_an_absolute_embedding(tmp_path: Path, to: str) -> None:
    options = dict(position_encoding='absolute+relative', pretrain_img_size=(32, 48))
    model, twin = tiny_backbone(**options), tiny_backbone(**options)
    convert_file(str(save(tmp_path, model.state_dict())), tmp_path / 'target.pth', to)
    written = next(value for name, value in weights_of(tmp_path / 'target.pth').items() if value.shape == (1, 96, 16))
    assert torch.equal(written[0, 13], model.absolute_pos_embed[0, :, 1, 1])
    load_pretrained(twin, tmp_path / 'target.pth')
    assert torch.equal(twin.absolute_pos_embed, model.absolute_pos_embed)


def test_stock_mmdet_loads_files_written_for_it(tmp_path: Path) -> None:
    swin = pytest.importorskip('mmdet.models.backbones').SwinTransformer
    config = pytest.importorskip('mmengine.config').ConfigDict(
        type='Pretrained', checkpoint=str(tmp_path / 'mmdet.pth')
    )
    model = tiny_backbone(window_size=4).eval()
    convert_file(str(save(tmp_path, model.state_dict())), tmp_path / 'mmdet.pth', 'mmdet')
    stock = swin(
        embed_dims=16, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8), window_size=4, drop_path_rate=0.0, init_cfg=config
    )
    stock.init_weights()
    stock.eval()
    image = torch.randn(1, 3, 61, 90)
    with torch.no_grad():
        assert all(relative_error(a, b) < 1e-5 for a, b in zip(model(image), stock(image), strict=True))


def test_torchvision_buffers_are_written(tmp_path: Path) -> None:
    source = save(tmp_path, layout_state('timm', SMALL, 2))
    with pytest.raises(InputError, match='the window cannot be determined from the source: pass --window-size'):
        convert_file(str(source), tmp_path / 'a.pth', 'torchvision')
    convert_file(str(source), tmp_path / 'a.pth', 'torchvision', window_size=[4])
    state = weights_of(tmp_path / 'a.pth')
    assert torch.equal(state['features.3.1.attn.relative_position_index'], index(4).flatten())
    assert torch.allclose(state['features.3.1.attn.relative_coords_table'], coordinates(4), atol=1e-6)
    convert_file(str(source), tmp_path / 'b.pth', 'torchvision', window_size=[4], pretrained_window_sizes=[8, 8, 8, 6])
    state = weights_of(tmp_path / 'b.pth')
    assert torch.allclose(state['features.3.1.attn.relative_coords_table'], coordinates(4, 8), atol=1e-6)
    assert torch.allclose(state['features.7.0.attn.relative_coords_table'], coordinates(4, 6), atol=1e-6)
    for wrong in (dict(window_size=[1, 2, 3]), dict(window_size=[4], pretrained_window_sizes=[8])):
        with pytest.raises(InputError):
            convert_file(str(source), tmp_path / 'c.pth', 'torchvision', **wrong)


@pytest.mark.parametrize(
    ('options', 'to', 'message'),
    [
        (dict(position_encoding='absolute+relative'), 'timm', 'an absolute position embedding'),
        (dict(position_encoding='absolute+relative'), 'torchvision', 'an absolute position embedding'),
        (dict(position_encoding='absolute+relative', version=2), 'transformers', 'V2 with an absolute'),
        (dict(position_encoding='none'), 'transformers', 'no relative position bias'),
        (dict(qkv_bias=False), 'torchvision', 'no bias of queries'),
        (dict(patch_norm=False), 'timm', 'no norm after the patch embedding'),
        (dict(variant='huge', version=2, depths=(6, 2, 2, 2)), 'timm', 'norms on the main branch'),
        (dict(version=2), 'maskformer', 'the weights of Swin V2'),
        (dict(version=2), 'transformers-memory', 'the weights of Swin V2'),
    ],
)
def test_unsupported_options_of_the_target_raise_input_error(
    tmp_path: Path, options: dict[str, Any], to: str, message: str
) -> None:
    source = save(tmp_path, tiny_backbone(**options).state_dict())
    with pytest.raises(InputError, match=f'has {message}.*which {to} does not support'):
        convert_file(str(source), tmp_path / 'target.pth', to)
    assert not (tmp_path / 'target.pth').exists()


def test_parameters_of_another_network_raise_input_error(tmp_path: Path) -> None:
    source = save(tmp_path, {**tiny_backbone().state_dict(), 'layers.0.blocks.0.attn.gate.weight': torch.ones(1)})
    with pytest.raises(
        InputError,
        match=r'parameters that Swin does not have and that timm cannot store: layers\.0\.blocks\.0\.attn\.gate',
    ):
        convert_file(str(source), tmp_path / 'target.pth', 'timm')


def test_invalid_destinations_raise_input_error(tmp_path: Path) -> None:
    source = save(tmp_path, tiny_backbone().state_dict())
    (tmp_path / 'folder.pth').mkdir()
    for target, message in (
        ('target.onnx', 'must end in one of'),
        ('none/target.pth', 'is in a folder that does not exist'),
        ('folder.pth', 'is a folder'),
        ('source.pth', 'exists: pass --force'),
    ):
        with pytest.raises(InputError, match=message):
            convert_file(str(source), tmp_path / target, 'timm')


def test_an_interrupted_write_keeps_the_existing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = save(tmp_path, tiny_backbone().state_dict())
    target = tmp_path / 'target.pth'
    target.write_bytes(b'precious')

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(export.torch, 'save', interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert_file(str(source), target, 'timm', force=True)
    assert target.read_bytes() == b'precious'
    assert sorted(path.name for path in tmp_path.iterdir()) == ['source.pth', 'target.pth']


def test_written_slices_do_not_include_whole_storages(tmp_path: Path) -> None:
    source = save(tmp_path, tiny_backbone().state_dict())
    convert_file(str(source), tmp_path / 'target.pth', 'transformers')
    assert (tmp_path / 'target.pth').stat().st_size < 1.2 * source.stat().st_size


def test_safetensors_metadata_has_the_pytorch_format(tmp_path: Path) -> None:
    source = save(tmp_path, tiny_backbone().state_dict())
    convert_file(str(source), tmp_path / 'target.safetensors', 'transformers')
    assert b'"format":"pt"' in (tmp_path / 'target.safetensors').read_bytes()[:100]
    assert 'swin.embeddings.norm.weight' in load_file(tmp_path / 'target.safetensors')


def test_convert_command_exit_codes_and_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = save(tmp_path, tiny_backbone().state_dict())
    target = tmp_path / 'target.safetensors'
    assert tool(source, target, '--to', 'timm', monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out.startswith(f'wrote {target}: 125 tensors of Swin V1')
    assert tool(source, target, '--to', 'timm', monkeypatch=monkeypatch) == 2
    assert capsys.readouterr().err == f'error: {target} exists: pass --force to overwrite it, or choose another name.\n'
    assert tool(source, target, '--to', 'mmdet', '--force', monkeypatch=monkeypatch) == 0
    assert tool(source, target, '--to', 'keras', monkeypatch=monkeypatch) == 2
    assert tool(tmp_path / 'none.pth', target, '--to', 'timm', '--force', monkeypatch=monkeypatch) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f'error: {tmp_path / "none.pth"} does not exist')
    assert tool('--help', monkeypatch=monkeypatch) == 0
    assert 'example:' in capsys.readouterr().out


def test_files_without_a_backbone_raise_input_error(tmp_path: Path) -> None:
    source = save(tmp_path, nn.Linear(2, 2).state_dict())
    with pytest.raises(InputError, match='contains no Swin backbone'):
        convert_file(str(source), tmp_path / 'target.pth', 'timm')
    with pytest.raises(InputError, match="unknown layout 'keras'"):
        convert_file(str(source), tmp_path / 'target.pth', 'keras')
