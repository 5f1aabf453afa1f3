"""BiFPN compared with an explicit computation."""

import pytest
import torch
from torch import Tensor, nn

from swin_backbone.errors import InputError
from tests.helpers import randomize

pytest.importorskip('mmdet')

from swin_backbone.openmmlab.detection.reppoints_v2.bifpn import BiFPN, BiFPNLayer, FastFusion

NORM = dict(type='GN', num_groups=4)
SIZES = [(9, 14), (5, 7), (3, 4), (2, 2), (1, 1)]


def maps(channels: list[int]) -> list[Tensor]:
    return [torch.randn(2, c, *size) for c, size in zip(channels, SIZES, strict=True)]


def fused(weights: Tensor, inputs: list[Tensor]) -> Tensor:
    """Compute the fusion node element by element."""
    kept = [max(w, 0.0) for w in weights.flatten().tolist()]
    out = torch.empty_like(inputs[0])
    for place in range(out.numel()):
        total = sum(w * x.flatten()[place].item() for w, x in zip(kept, inputs, strict=True)) / (sum(kept) + 1e-4)
        out.view(-1)[place] = total / (1 + torch.exp(torch.tensor(-total)))
    return out


def halved(x: Tensor) -> Tensor:
    """Compute the maximum of the 3x3 cells around every second cell."""
    height, width = x.shape[-2:]
    rows = [
        torch.stack(
            [x[..., max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].amax((-2, -1)) for j in range(0, width, 2)], dim=-1
        )
        for i in range(0, height, 2)
    ]
    return torch.stack(rows, dim=-2)


def enlarged(x: Tensor, like: Tensor) -> Tensor:
    """Upsample a map to the size of a finer map, nearest-neighbour."""
    height, width = like.shape[-2:]
    rows = torch.tensor([i * x.shape[-2] // height for i in range(height)])
    columns = torch.tensor([j * x.shape[-1] // width for j in range(width)])
    return x[..., rows[:, None], columns]


@torch.no_grad()
def test_fusion_node_equals_loops() -> None:
    node = FastFusion(3)
    node.weights.view(-1)[:] = torch.tensor([0.7, -0.4, 1.9])
    inputs = [torch.randn(1, 3, 4, 5) for _ in range(3)]
    torch.testing.assert_close(node(inputs), fused(node.weights, inputs))


def test_fusion_starts_with_equal_weights() -> None:
    assert FastFusion(2).weights.shape == (1, 1, 1, 1, 2)
    x = torch.randn(1, 2, 3, 3)
    torch.testing.assert_close(FastFusion(2)([x, x]), nn.functional.silu(x / (1 + 0.5e-4)))


@torch.no_grad()
def test_layer_equals_the_explicit_pyramid() -> None:
    layer = randomize(BiFPNLayer([4, 8, 12, 12, 12], 8, NORM))
    p3, p4, p5, p6, p7 = inputs = maps([4, 8, 12, 12, 12])
    lateral, down, up = layer.lateral_convs, layer.lateral_combine, layer.out_combine
    down_conv, up_conv = layer.lateral_combine_conv, layer.out_combine_conv

    l3, l4, l5, l6, l7 = lateral[0](p3), p4, lateral[2](p5), lateral[3](p6), lateral[4](p7)
    t6 = down_conv[3](fused(down[3].weights, [l6, enlarged(l7, l6)]))
    t5 = down_conv[2](fused(down[2].weights, [l5, enlarged(t6, l5)]))
    t4 = down_conv[1](fused(down[1].weights, [l4, enlarged(t5, l4)]))
    o3 = down_conv[0](fused(down[0].weights, [l3, enlarged(t4, l3)]))
    o4 = up_conv[0](fused(up[0].weights, [halved(o3), t4, l4]))
    o5 = up_conv[1](fused(up[1].weights, [halved(o4), t5, l5]))
    o6 = up_conv[2](fused(up[2].weights, [halved(o5), t6, l6]))
    o7 = up_conv[3](fused(up[3].weights, [halved(o6), l7]))

    for ours, plain in zip(layer(inputs), [o3, o4, o5, o6, o7], strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_extra_levels_are_pooled_from_the_last_input() -> None:
    neck = randomize(BiFPN([4, 8, 12], 8, num_outs=5, num_repeat=2, norm_cfg=NORM))
    inputs = maps([4, 8, 12, 12, 12])[:3]
    p6 = halved(inputs[2])
    levels = [*inputs, p6, halved(p6)]
    for layer in neck.bi_fpn:
        levels = layer(levels)
    for ours, plain in zip(neck(inputs), levels, strict=True):
        torch.testing.assert_close(ours, plain)


def test_laterals_exist_only_where_channels_differ() -> None:
    neck = BiFPN([4, 8, 12], 8, num_outs=5, num_repeat=2, norm_cfg=NORM)
    kinds = [[isinstance(lateral, nn.Identity) for lateral in layer.lateral_convs] for layer in neck.bi_fpn]
    assert kinds == [[False, True, False, False, False], [True] * 5]
    names = dict(neck.named_parameters())
    assert 'bi_fpn.0.lateral_convs.4.gn.weight' in names
    assert 'bi_fpn.1.out_combine.3.weights' in names
    assert not [name for name in names if name.endswith('conv.bias')]


def test_initialisation_is_xavier_uniform() -> None:
    neck = BiFPN([4, 8, 12], 8, norm_cfg=NORM)
    neck.init_weights()
    for name, parameter in neck.named_parameters():
        if name.endswith('conv.weight'):
            fan = (parameter.shape[0] + parameter.shape[1]) * parameter[0, 0].numel()
            assert parameter.abs().max() <= (6 / fan) ** 0.5
            assert parameter.abs().max() > 0.8 * (6 / fan) ** 0.5


@pytest.mark.parametrize(('channels', 'num_outs'), [([4, 8, 12], 2), ([4], 1)])
def test_too_few_levels_raise_input_error(channels: list[int], num_outs: int) -> None:
    with pytest.raises(InputError, match='num_outs'):
        BiFPN(channels, 8, num_outs=num_outs, norm_cfg=NORM)
