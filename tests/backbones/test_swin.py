"""SwinTransformer: sizes, shapes, precisions, freezing, checkpointing, compilation and errors."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from swin_backbone import VARIANTS, SwinTransformer
from swin_backbone.errors import InputError
from tests.helpers import TINY, relative_error, tiny_backbone

PARAMETERS_V1 = {'tiny': 27_520_698, 'small': 48_838_602, 'base': 86_745_016, 'large': 194_998_164}
PARAMETERS_V2_WITHOUT_NORMS = {'tiny': 27_576_618, 'small': 48_957_882, 'base': 86_891_768, 'large': 195_199_860}


def count(model: nn.Module, prefix_left_out: str = '-') -> int:
    return sum(p.numel() for name, p in model.named_parameters() if not name.startswith(prefix_left_out))


@pytest.mark.parametrize('variant', PARAMETERS_V1)
def test_parameter_counts_equal_the_published_ones(variant: str) -> None:
    with torch.device('meta'):
        assert count(SwinTransformer(variant)) == PARAMETERS_V1[variant]
        assert count(SwinTransformer(variant, version=2), 'norm') == PARAMETERS_V2_WITHOUT_NORMS[variant]


def test_parameter_counts_of_the_largest_v2() -> None:
    with torch.device('meta'):
        assert round(count(SwinTransformer('huge', version=2), 'norm') / 1e6, 1) == 655.2
        assert round(count(SwinTransformer('giant', version=2), 'norm') / 1e9, 3) == 2.998


@pytest.mark.parametrize('version', [1, 2])
@pytest.mark.parametrize('size', [(1, 1), (1, 40), (5, 5), (33, 31), (64, 64), (37, 101)])
@pytest.mark.parametrize('window', [7, (3, 5)])
def test_maps_have_the_documented_shapes_at_any_size(version: int, size: tuple[int, int], window: object) -> None:
    model = tiny_backbone(version=version, window_size=window).eval()
    with torch.no_grad():
        maps = model(torch.randn(2, 3, *size))
    for index, out in enumerate(maps):
        stride = 4 * 2**index
        assert out.shape == (2, 16 * 2**index, -(-size[0] // stride), -(-size[1] // stride))
        assert out.isfinite().all() and out.is_contiguous()


@pytest.mark.parametrize('version', [1, 2])
@pytest.mark.parametrize('position_encoding', ['none', 'absolute', 'relative', 'absolute+relative'])
@pytest.mark.parametrize('window', [4, (3, 5)])
def test_backends_give_equal_maps_and_gradients(version: int, position_encoding: str, window: object) -> None:
    options = dict(version=version, position_encoding=position_encoding, window_size=window, in_channels=2)
    model = tiny_backbone(**options, backend='eager')
    fused = SwinTransformer(**TINY, **options, backend='sdpa')
    fused.load_state_dict(model.state_dict())
    image = torch.randn(2, 2, 75, 50)
    for a, b in zip(model(image), fused(image), strict=True):
        assert relative_error(b, a) < 1e-5
    for net in (model, fused):
        sum((out**2).sum() for out in net(image)).backward()
    for (name, a), b in zip(model.named_parameters(), fused.parameters(), strict=True):
        assert relative_error(b.grad, a.grad) < 1e-3, name


def test_only_norms_and_stages_needed_for_outputs_are_built() -> None:
    model = tiny_backbone(out_indices=(0, 2))
    assert [name for name, _ in model.named_children() if name.startswith('norm')] == ['norm0', 'norm2']
    assert len(model.layers) == 3 and model.layers[2].downsample is None
    assert model.num_features == (16, 32, 64)
    assert model.feature_info == [
        dict(num_chs=16, reduction=4, index=0),
        dict(num_chs=64, reduction=16, index=2),
    ]
    sum(out.sum() for out in model(torch.randn(1, 3, 64, 64))).backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize('version', [1, 2])
def test_output_norms_are_applied_before_merging(version: int) -> None:
    model = tiny_backbone(version=version).eval()
    image = torch.randn(1, 3, 64, 48)
    x = model.layers[0](model.patch_embed(image))
    assert torch.allclose(model(image)[0], model.norm0(x).permute(0, 3, 1, 2))


@pytest.mark.parametrize('version', [1, 2])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_forward_and_backward(version: int, dtype: torch.dtype) -> None:
    model = tiny_backbone(version=version)
    image = torch.randn(1, 3, 61, 47)
    expected = [out.detach() for out in model(image)]
    half = copy.deepcopy(model).to(dtype)
    maps = half(image)
    for ours, exact in zip(maps, expected, strict=True):
        assert ours.dtype == dtype and relative_error(ours.float(), exact) < (0.05 if dtype is torch.float16 else 0.3)
    sum(out.float().sum() for out in maps).backward()
    assert all(p.grad.isfinite().all() for p in half.parameters())


@pytest.mark.parametrize('version', [1, 2])
@pytest.mark.parametrize('backend', ['eager', 'sdpa'])
def test_autocast(version: int, backend: str) -> None:
    model = tiny_backbone(version=version, backend=backend)
    image = torch.randn(1, 3, 61, 47)
    expected = [out.detach() for out in model(image)]
    with torch.autocast('cpu', torch.bfloat16):
        maps = model(image)
    for ours, exact in zip(maps, expected, strict=True):
        assert relative_error(ours.float(), exact) < 0.3
    sum(out.float().sum() for out in maps).backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize('frozen', [-1, 0, 1, 2, 4])
def test_frozen_stages_stay_frozen_after_train(frozen: int) -> None:
    model = tiny_backbone(frozen_stages=frozen, position_encoding='absolute+relative')
    assert model.train() is model and model.eval() is model and model.train(True) is model
    expected = set()
    if frozen >= 0:
        expected = {name for name, _ in model.named_parameters() if name.startswith(('patch_embed', 'absolute'))}
        for index in range(frozen):
            expected |= {n for n, _ in model.named_parameters() if n.startswith((f'layers.{index}.', f'norm{index}.'))}
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == expected
    for index, stage in enumerate(model.layers):
        assert stage.training == (index >= frozen)


@pytest.mark.parametrize('version', [1, 2])
def test_with_cp_keeps_gradients_for_all_or_some_stages(version: int) -> None:
    plain = tiny_backbone(version=version)
    image = torch.randn(1, 3, 64, 50)
    nets = [plain]
    for with_cp in (True, (0, 2)):
        nets.append(SwinTransformer(**TINY, version=version, with_cp=with_cp))
        nets[-1].load_state_dict(plain.state_dict())
    assert [stage.with_cp for stage in nets[2].layers] == [True, False, True, False]
    for net in nets:
        sum((out**2).sum() for out in net(image)).backward()
    for net in nets[1:]:
        for a, b in zip(plain.parameters(), net.parameters(), strict=True):
            assert torch.allclose(a.grad, b.grad, rtol=1e-4, atol=1e-6)


def test_drop_path_rates_are_linear_and_apply_only_in_training() -> None:
    model = SwinTransformer(**{**TINY, 'drop_path_rate': 0.7})
    rates = [block.drop_path.rate for stage in model.layers for block in stage.blocks]
    assert rates == pytest.approx([0.1 * i for i in range(8)])
    image = torch.randn(4, 3, 32, 32)
    assert not torch.equal(model(image)[3], model(image)[3])
    model.eval()
    assert torch.equal(model(image)[3], model(image)[3])


def test_absolute_embedding_has_the_pretraining_grid_and_supports_any_image_size() -> None:
    model = tiny_backbone(position_encoding='absolute', pretrain_img_size=(64, 32))
    assert model.absolute_pos_embed.shape == (1, 16, 16, 8)
    assert not any('bias_table' in name for name, _ in model.named_parameters())
    before = model(torch.randn(1, 3, 37, 90))
    assert len(before) == 4


def test_shift_can_be_disabled() -> None:
    assert not any(block.shifted for stage in tiny_backbone(shift=False).layers for block in stage.blocks)
    assert not any(block.shifted for s in tiny_backbone(attention_method='window').layers for block in s.blocks)
    shifted = [block.shifted for stage in tiny_backbone().layers for block in stage.blocks]
    assert shifted == [False, True] * 4


def test_state_dict_contains_only_parameters() -> None:
    for version in (1, 2):
        model = tiny_backbone(version=version)
        model(torch.randn(1, 3, 32, 32))
        assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}


def test_new_v2_blocks_are_the_identity() -> None:
    model = SwinTransformer(**TINY, version=2).eval()
    x = torch.randn(1, 9, 9, 16)
    assert torch.equal(model.layers[0](x), x)


def test_v2_bias_is_updated_with_its_weights_in_evaluation() -> None:
    """Weights may be written through ``.data``, as weight averaging does."""
    model = tiny_backbone(version=2).eval()
    attn = model.layers[0].blocks[0].attn
    with torch.no_grad():
        first = attn.position_bias()
        attn.cpb_mlp[2].weight.data.mul_(2)
        assert not torch.equal(attn.position_bias(), first)
    assert attn.train().position_bias().requires_grad


def test_v2_biases_of_shared_offsets_do_not_depend_on_the_window() -> None:
    """Offsets that both windows have get the same bias."""
    small = tiny_backbone(version=2, window_size=4)
    large = SwinTransformer(**TINY, version=2, window_size=6, pretrained_window_sizes=(4, 4, 4, 4))
    large.load_state_dict(small.state_dict())
    a = small.layers[0].blocks[0].attn.position_bias().view(1, 4, 4, 4, 4)
    b = large.layers[0].blocks[0].attn.position_bias().view(1, 6, 6, 6, 6)
    assert torch.allclose(a, b[:, :4, :4, :4, :4])


def test_model_can_be_converted_between_precisions_after_use() -> None:
    model = tiny_backbone()
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float32):
        assert model.to(dtype)(torch.randn(1, 3, 40, 40))[3].dtype == dtype


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(variant='swin_t'), 'unknown variant'),
        (dict(variant='huge'), 'unknown variant'),
        (dict(version=3), 'version must be'),
        (dict(variant=None, embed_dim=96), 'give depths, num_heads'),
        (dict(window_size=0), 'window_size must be'),
        (dict(window_size=(7, 7, 7)), 'window_size must be'),
        (dict(position_encoding='rel'), 'unknown position_encoding'),
        (dict(attention_method='linear'), 'unknown attention_method'),
        (dict(backend='cuda'), 'unknown backend'),
        (dict(out_indices=(2, 1)), 'out_indices must be ascending'),
        (dict(out_indices=()), 'out_indices must be ascending'),
        (dict(out_indices=(4,)), 'out_indices must be ascending'),
        (dict(frozen_stages=5), 'frozen_stages must be'),
        (dict(with_cp=(7,)), 'with_cp must be'),
        (dict(num_heads=(3, 6, 12)), 'one value per stage'),
        (dict(num_heads=(5, 6, 12, 24)), 'not divisible by 5 heads'),
        (dict(drop_path_rate=1.0), 'drop_path_rate must be'),
        (dict(pretrained_window_sizes=(8, 8)), 'one value per stage'),
        (dict(patch_size=0), 'patch_size must be a positive integer, got 0'),
        (dict(patch_size=(4, 4)), 'patch_size must be a positive integer'),
        (dict(in_channels=0), 'in_channels must be a positive integer'),
        (dict(embed_dim=0), 'embed_dim must be a positive integer'),
        (dict(out_indices=2), 'out_indices must be a sequence of integers'),
        (dict(depths=6), 'depths must be a sequence of integers'),
        (dict(depths=(2, 0, 6, 2)), 'depths must have at least one stage'),
        (dict(num_heads=3.0), 'num_heads must be a sequence of integers'),
        (dict(with_cp=2), 'with_cp must be a sequence of integers'),
        (dict(pretrained_window_sizes=8), 'pretrained_window_sizes must be a sequence of integers'),
        (dict(window_size=7.5), 'window_size must be'),
    ],
)
def test_invalid_options_raise_input_error(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message), torch.device('meta'):
        SwinTransformer(**options)


@pytest.mark.parametrize('shape', [(3, 32, 32), (1, 4, 32, 32), (1, 32, 32, 3), (1, 3, 0, 32)])
def test_images_of_wrong_shapes_raise_input_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match='expected an image '):
        tiny_backbone()(torch.zeros(shape))


def test_import_needs_no_toolkit() -> None:
    code = (
        'import sys, swin_backbone; '
        'loaded = [m for m in sys.modules if m.split(".")[0] in ("mmengine", "mmcv", "mmdet", "mmseg")]; '
        'assert not loaded, loaded'
    )
    subprocess.run([sys.executable, '-c', code], check=True)


def test_variants_lists_the_published_sizes() -> None:
    assert list(VARIANTS) == ['tiny', 'tiny-c24', 'small', 'base', 'large', 'huge', 'giant-simmim', 'giant']


@pytest.mark.parametrize('version', [1, 2])
def test_six_image_sizes_need_two_compiled_graphs(version: int) -> None:
    """One graph is for the first size and one for all others, so no part of the network specializes on a size."""
    torch.compiler.reset()
    model = SwinTransformer(
        variant=None, version=version, embed_dim=16, depths=(1, 2), num_heads=(1, 2), out_indices=(0, 1)
    ).eval()
    counter = CompileCounterWithBackend('aot_eager')
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    for size in ((64, 64), (63, 81), (56, 48), (37, 50), (80, 72), (61, 90)):
        image = torch.randn(1, 3, *size)
        with torch.no_grad():
            for one, other in zip(compiled(image), model(image), strict=True):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert counter.frame_count == 2
