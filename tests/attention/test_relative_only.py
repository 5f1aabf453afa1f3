"""Attention by relative position only, compared with its formula."""

import pytest
import torch
from torch import Tensor

from swin_backbone.attention.kernels import window_attention
from swin_backbone.attention.relative_only import relative_only_attention
from swin_backbone.attention.window_plan import WindowPlan, region_mask, window_partition, window_reverse
from tests.helpers import relative_error

HEADS, DIM = 2, 3
SIZES = [(1, 1), (3, 5), (7, 7), (8, 13), (14, 9)]


def window_by_window(values: Tensor, bias: Tensor, plan: WindowPlan, shifted: bool, pad_value: Tensor) -> Tensor:
    """Compute softmax(B + mask) V for one window and head at a time."""
    masks = region_mask(plan).to(values.dtype) * shifted
    windows = window_partition(values, plan, shifted, pad_value)
    out = torch.empty_like(windows)
    for number in range(plan.num_windows):
        for head in range(HEADS):
            weights = (bias[head] + masks[number]).softmax(-1)
            own = slice(head * DIM, (head + 1) * DIM)
            out[:, number, :, own] = weights @ windows[:, number, :, own]
    return window_reverse(out, plan, shifted)


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('window', [(7, 7), (3, 4), (1, 1), (1, 5)])
@pytest.mark.parametrize('shifted', [False, True])
def test_output_is_the_softmax_of_the_bias_times_the_values(
    size: tuple[int, int], window: tuple[int, int], shifted: bool
) -> None:
    plan, tokens = WindowPlan(*size, window), window[0] * window[1]
    shapes = [(2, *size, HEADS * DIM), (HEADS, tokens, tokens), (HEADS * DIM,)]
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    values, bias, pad_value = inputs
    expected = window_by_window(values, bias, plan, shifted and plan.shift != (0, 0), pad_value)
    actual = relative_only_attention(values, bias, plan, shifted, HEADS, pad_value)
    weight = torch.randn_like(expected)
    reference = torch.autograd.grad((expected * weight).sum(), inputs, allow_unused=True, materialize_grads=True)
    ours = torch.autograd.grad((actual * weight).sum(), inputs, allow_unused=True, materialize_grads=True)
    for a, b in zip([actual, *ours], [expected, *reference], strict=True):
        assert relative_error(a, b) < 1e-12 or b.abs().max() < 1e-12


@pytest.mark.parametrize('shifted', [False, True])
def test_output_equals_window_attention_with_zero_queries(shifted: bool) -> None:
    values, bias, pad = torch.randn(2, 8, 13, HEADS * DIM), torch.randn(HEADS, 25, 25), torch.randn(HEADS * DIM)
    plan = WindowPlan(8, 13, (5, 5))
    nothing = torch.zeros(2, 8, 13, 2 * HEADS * DIM)
    qkv, full_pad = torch.cat([nothing, values], -1), torch.cat([nothing[0, 0, 0], pad])
    expected = window_attention(qkv, bias, plan, shifted, HEADS, 1.0, full_pad, backend='eager')
    assert relative_error(relative_only_attention(values, bias, plan, shifted, HEADS, pad), expected) < 1e-6


@pytest.mark.parametrize('shifted', [False, True])
def test_dropout_is_independent_in_every_window_and_image(shifted: bool) -> None:
    values, bias = torch.ones(2, 6, 6, HEADS * DIM), torch.zeros(HEADS, 9, 9)
    out = relative_only_attention(values, bias, WindowPlan(6, 6, (3, 3)), shifted, HEADS, dropout=0.5)
    assert len(out.unique()) > 2 and not torch.equal(out[0], out[1])
    assert abs(out.mean().item() - 1.0) < 0.2
