"""Swin-Mixer: comparison with its definition, sizes, weights, compilation and export."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_backbone import SwinMixer, SwinTransformer, load_pretrained
from swin_backbone.attention.spatial_mixing import SpatialMixing
from swin_backbone.attention.window_plan import WindowPlan
from swin_backbone.errors import InputError
from swin_backbone.export import compare_onnx, export_onnx
from swin_backbone.inspection.features import window_attention_of
from tests.helpers import randomize, relative_error

SIZES: dict[str, Any] = dict(
    variant=None, embed_dim=16, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8), window_size=4, drop_path_rate=0.0
)


def small(**overrides: Any) -> SwinMixer:
    """Build a small backbone with random weights."""
    model = SwinMixer(**{**SIZES, **overrides})
    randomize(model)
    return model


def mix(x: Tensor, weight: Tensor, bias: Tensor, window: int, heads: int, shifted: bool) -> Tensor:
    """Mix the tokens of a map ``[B, H, W, C]``, one window at a time; ``weight`` is ``[heads * N, N, 1]``."""
    batch, height, width, channels = x.shape
    before = window - window // 2 if shifted and min(height, width) > window else 0
    rows, cols = -(-(height + before) // window), -(-(width + before) // window)
    framed = x.new_zeros(batch, rows * window, cols * window, channels)
    framed[:, before : before + height, before : before + width] = x
    matrices, biases = weight.view(heads, window**2, window**2), bias.view(heads, window**2)
    out = torch.empty_like(framed)
    for top in range(0, rows * window, window):
        for left in range(0, cols * window, window):
            tokens = framed[:, top : top + window, left : left + window].reshape(batch, window**2, heads, -1)
            mixed = torch.einsum('hij,bjhd->bihd', matrices, tokens) + biases.t()[None, :, :, None]
            out[:, top : top + window, left : left + window] = mixed.reshape(batch, window, window, channels)
    return out[:, before : before + height, before : before + width]


def definition(model: SwinMixer, image: Tensor) -> list[Tensor]:
    """Compute the maps of a backbone from its parameters."""
    state, heads, window = dict(model.named_parameters()), model.options.num_heads, model.options.windows[0][0]

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], state[f'{name}.weight'], state[f'{name}.bias'])

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, state[f'{name}.weight'], state.get(f'{name}.bias'))

    image = F.pad(image, (0, -image.shape[3] % 4, 0, -image.shape[2] % 4))
    x = F.conv2d(image, state['patch_embed.proj.weight'], state['patch_embed.proj.bias'], stride=4)
    x, maps = norm('patch_embed.norm', x.permute(0, 2, 3, 1)), []
    for i in range(4):
        for j in range(model.options.depths[i]):
            block = f'layers.{i}.blocks.{j}'
            weight, bias = state[f'{block}.spatial_mlp.weight'], state[f'{block}.spatial_mlp.bias']
            shifted = model.options.shift and j % 2 == 1
            x = x + mix(norm(f'{block}.norm1', x), weight, bias, window, heads[i], shifted)
            x = x + linear(f'{block}.mlp.fc2', F.gelu(linear(f'{block}.mlp.fc1', norm(f'{block}.norm2', x))))
        maps.append(norm(f'norm{i}', x).permute(0, 3, 1, 2))
        if i < 3:
            x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
            x = torch.cat([x[:, ::2, ::2], x[:, 1::2, ::2], x[:, ::2, 1::2], x[:, 1::2, 1::2]], -1)
            x = linear(f'layers.{i}.downsample.reduction', norm(f'layers.{i}.downsample.norm', x))
    return maps


@pytest.mark.parametrize('size', [(64, 64), (128, 96), (37, 101), (201, 66), (1, 1), (15, 140)])
@pytest.mark.parametrize(
    'options', [dict(window_size=4), dict(window_size=7), dict(window_size=3, shift=False)], ids=str
)
def test_maps_and_gradients_equal_the_definition(size: tuple[int, int], options: dict[str, Any]) -> None:
    model = small(**options).double()
    image = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    ours, reference = model(image), definition(model, image)
    assert max(map(relative_error, ours, reference)) < 1e-12
    inputs = [image, *model.parameters()]
    probes = [torch.randn_like(one) for one in ours]
    pairs = [torch.autograd.grad(maps, inputs, probes, allow_unused=True) for maps in (ours, reference)]
    for one, other in zip(*pairs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(('size', 'window'), [((16, 24), 8), ((21, 14), 7), ((14, 14), 7)])
@pytest.mark.parametrize('shifted', [False, True])
def test_mixing_equals_a_grouped_convolution(size: tuple[int, int], window: int, shifted: bool) -> None:
    """In the original code, maps are whole windows, and a shifted one is framed with w - s and s zeros."""
    heads, channels = 3, 12
    module = SpatialMixing(heads, (window, window)).double()
    randomize(module)
    x = torch.randn(2, *size, channels, dtype=torch.float64)
    conv = nn.Conv1d(heads * window**2, heads * window**2, 1, groups=heads).double()
    conv.load_state_dict(module.state_dict())
    before, after = (window - window // 2, window // 2) if shifted else (0, 0)
    framed = F.pad(x, (0, 0, before, after, before, after))
    rows, cols = framed.shape[1] // window, framed.shape[2] // window
    cut = framed.view(2, rows, window, cols, window, channels).transpose(2, 3).reshape(-1, window**2, heads, 4)
    out = conv(cut.transpose(1, 2).reshape(-1, heads * window**2, 4)).view(-1, heads, window**2, 4).transpose(1, 2)
    out = out.reshape(2, rows, cols, window, window, channels).transpose(2, 3).reshape(framed.shape)
    expected = out[:, before : before + size[0], before : before + size[1]]
    torch.testing.assert_close(module(x, WindowPlan(*size, (window, window)), shifted), expected)


@pytest.mark.parametrize(
    ('variant', 'parameters', 'classifier'),
    [
        ('tiny_c24', 19_618_976, 20_386_632),
        ('tiny_c12', 20_384_416, 21_152_072),
        ('tiny_c6', 21_915_296, 22_682_952),
        ('base', 59_636_208, 60_659_416),
    ],
)
def test_variants_have_the_released_sizes(variant: str, parameters: int, classifier: int) -> None:
    """Classifiers, with one norm and 1000 classes, have 20, 21, 23 and 61 million in the original model hub."""
    with torch.device('meta'):
        model, last = SwinMixer(variant), SwinMixer(variant, out_indices=(3,))
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert sum(p.numel() for p in last.parameters()) + 1000 * (last.num_features[3] + 1) == classifier
    assert [info['reduction'] for info in model.feature_info] == [4, 8, 16, 32]


def released(model: SwinMixer) -> dict[str, Any]:
    """Return a file in the released layout for ``model``: one norm and a classifier instead of output norms."""
    state = {name: value for name, value in model.state_dict().items() if not name.startswith('norm')}
    extra = dict(zip(('norm.weight', 'norm.bias'), torch.randn(2, model.num_features[-1]), strict=True))
    return {'model': {**state, **extra, 'head.weight': torch.randn(10, 128), 'head.bias': torch.randn(10)}}


def test_released_mixer_files_load_strictly(tmp_path: Path) -> None:
    source, model = small(), small()
    torch.save(released(source), tmp_path / 'mixer.pth')
    report = load_pretrained(model, tmp_path / 'mixer.pth')
    assert report.complete and report.dialect == 'original' and 'Swin-Mixer)' in str(report)
    assert {name.split('.')[0] for name in report.new} == {'norm0', 'norm1', 'norm2', 'norm3'}
    for name, value in source.state_dict().items():
        assert name.startswith('norm') or torch.equal(value, model.state_dict()[name])
    configured = small(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'mixer.pth')))
    configured.init_weights()
    small().load_state_dict(released(source)['model'])
    small().load_state_dict(source.state_dict())


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: small(window_size=7), r'Most likely it needs a backbone built with window_size=4 '),
        (lambda: SwinMixer('tiny_c24'), r'Swin-Mixer of custom sizes.*variant=None, embed_dim=16.*window_size=4'),
        (lambda: SwinTransformer('tiny'), r'contains a Swin-Mixer .* Load it into swin_backbone\.SwinMixer\.$'),
    ],
)
def test_mismatched_weights_raise_input_error(make: Any, message: str) -> None:
    with torch.device('meta'):
        model = make()
    with pytest.raises(InputError, match=message) as error:
        load_pretrained(model, released(small()))
    assert '\n' not in str(error.value)


def test_weights_with_attention_raise_input_error() -> None:
    state = SwinTransformer(**{**SIZES, 'window_size': 7}).state_dict()
    with pytest.raises(InputError, match=r'contains a Swin Transformer for images.*swin_backbone\.SwinTransformer\.$'):
        load_pretrained(small(), state)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(variant='tiny'), 'unknown variant .* use one of tiny_c24, tiny_c12, tiny_c6, base, or None with sizes'),
        (dict(variant=None), 'variant=None requires all sizes'),
        (dict(num_heads=(5, 8, 16, 32)), 'not divisible by 5 heads'),
    ],
)
def test_invalid_options_raise_input_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message), torch.device('meta'):
        SwinMixer(**options)


def test_with_cp_frozen_stages_and_drop_path() -> None:
    model = small(with_cp=True, frozen_stages=2, drop_path_rate=0.5, out_indices=(1, 3)).train()
    plain = small(out_indices=(1, 3))
    plain.load_state_dict(model.state_dict())
    for stage in model.layers:
        assert [block.drop_path.rate > 0 for block in stage.blocks] == [stage is not model.layers[0], True]
        for block in stage.blocks:
            block.drop_path.rate = 0.0
    image = torch.randn(1, 3, 70, 51)
    for one, other in zip(model(image), plain(image), strict=True):
        torch.testing.assert_close(one, other)
    sum(one.sum() for one in model(image)).backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert not any(name.startswith(('patch_embed', 'layers.0', 'layers.1', 'norm1')) for name in trained)
    assert 'layers.2.blocks.1.spatial_mlp.weight' in trained
    assert model.get_layer_depth('layers.1.blocks.1.spatial_mlp.weight') == (4, 10)
    assert not model.no_weight_decay()


def test_init_weights_initialises_memory_from_meta() -> None:
    with torch.device('meta'):
        model = SwinMixer(**SIZES)
    model.to_empty(device='cpu')
    model.init_weights()
    mixing = model.layers[0].blocks[0].spatial_mlp
    assert 0.01 < mixing.weight.std() < 0.03 and not mixing.bias.any()


def test_mixing_compiles_without_graph_breaks() -> None:
    torch.compiler.reset()
    module = SpatialMixing(2, (4, 4))

    def mixed(x: Tensor) -> Tensor:
        return module(x, WindowPlan(x.shape[1], x.shape[2], (4, 4)), True)

    compiled = torch.compile(mixed, fullgraph=True, backend='aot_eager')
    for size in ((16, 16), (15, 21), (4, 13)):
        x = torch.randn(1, *size, 8)
        torch.testing.assert_close(compiled(x), mixed(x))


EXPORTED = [(1, 64, 64), (2, 49, 37), (1, 16, 120), (3, 9, 14), (1, 130, 71)]


def test_onnx_file_of_a_mixer_supports_every_size(tmp_path: Path) -> None:
    pytest.importorskip('onnxruntime')
    model = small(depths=(2,), num_heads=(1,), out_indices=(0,)).eval()
    path = export_onnx(model, tmp_path / 'mixer.onnx', (64, 96))
    errors = compare_onnx(model, path, EXPORTED)
    assert max(errors.values()) < 1e-5, errors


def test_window_attention_of_a_mixer_raises_input_error() -> None:
    with pytest.raises(InputError, match='MixerBlock has no queries and keys in windows'):
        window_attention_of(small(), 0, 0)
