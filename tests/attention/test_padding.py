"""The shift by padding compared with the cyclic shift: output of every real token, and all gradients."""

import random

import pytest
import torch
from torch import Tensor, nn

from swin_backbone.attention.kernels import cpu as grouped
from swin_backbone.attention.kernels import window_attention
from swin_backbone.attention.relative_only import relative_only_attention
from swin_backbone.attention.window_plan import PadShiftPlan, WindowPlan, window_partition, window_reverse
from tests.helpers import relative_error

HEADS, DIM = 2, 4
WINDOWS = [(7, 7), (4, 4), (3, 4), (2, 1), (1, 5), (2, 2)]
CASES = 40


def random_sizes(window: tuple[int, int]) -> list[tuple[int, int]]:
    draw = random.Random(window[0] * 10 + window[1])
    drawn = [(draw.randrange(1, 4 * window[0] + 2), draw.randrange(1, 4 * window[1] + 2)) for _ in range(CASES // 6)]
    return [(1, 1), window, *drawn]


def outputs_and_gradients(inputs: list[Tensor], out: Tensor) -> list[Tensor]:
    weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    return [out, *torch.autograd.grad((out * weight).sum(), inputs, allow_unused=True, materialize_grads=True)]


def largest_difference(ours: list[Tensor], reference: list[Tensor]) -> float:
    return max(
        (a - b).abs().max().item() / max(1.0, b.abs().max().item()) for a, b in zip(ours, reference, strict=True)
    )


@pytest.mark.parametrize('window', WINDOWS)
@pytest.mark.parametrize('backend', ['eager', 'sdpa'])
def test_pad_shift_equals_cyclic_shift(window: tuple[int, int], backend: str) -> None:
    tokens, worst = window[0] * window[1], 0.0
    for size in random_sizes(window):
        shapes = [(2, *size, 3 * HEADS * DIM), (HEADS, tokens, tokens), (3 * HEADS * DIM,), (HEADS, 1, 1)]
        inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
        qkv, bias, pad_value, scale = inputs
        cyclic, displaced = (
            outputs_and_gradients(
                inputs, window_attention(qkv, bias, plan, True, HEADS, scale, pad_value, backend=backend)
            )
            for plan in (WindowPlan(*size, window), PadShiftPlan(*size, window))
        )
        worst = max(worst, largest_difference(displaced, cyclic))
    print(f'padding against cyclic, window {window}, {backend}: {worst:.1e}')
    assert worst < 1e-13


@pytest.mark.parametrize('window', WINDOWS)
def test_pad_shift_equals_cyclic_shift_for_relative_only_attention(window: tuple[int, int]) -> None:
    tokens = window[0] * window[1]
    for size in random_sizes(window):
        shapes = [(2, *size, HEADS * DIM), (HEADS, tokens, tokens), (HEADS * DIM,)]
        inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
        cyclic, displaced = (
            outputs_and_gradients(
                inputs, relative_only_attention(inputs[0], inputs[1], plan, True, HEADS, pad_value=inputs[2])
            )
            for plan in (WindowPlan(*size, window), PadShiftPlan(*size, window))
        )
        assert largest_difference(displaced, cyclic) < 1e-13


@pytest.mark.parametrize('window', WINDOWS)
def test_pad_shift_equals_cyclic_shift_in_groups(window: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouped, 'ROWS_PER_THREAD', 100)
    channels, tokens = HEADS * DIM, window[0] * window[1]
    project, finish = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
    for size in random_sizes(window):
        x, bias = torch.randn(2, *size, channels), torch.randn(HEADS, tokens, tokens)
        with torch.no_grad():
            cyclic, displaced = (
                grouped.attend_in_groups(x, project, finish, bias, plan, True, HEADS, 0.5, project.bias)
                for plan in (WindowPlan(*size, window), PadShiftPlan(*size, window))
            )
        assert relative_error(displaced, cyclic) < 1e-5


@pytest.mark.parametrize('window', WINDOWS)
def test_window_reverse_inverts_partition_of_a_pad_shift(window: tuple[int, int]) -> None:
    for size in random_sizes(window):
        plan = PadShiftPlan(*size, window)
        x = torch.randn(2, *size, 3)
        windows = window_partition(x, plan, True, pad_value=torch.randn(3))
        assert windows.shape == (2, plan.num_windows, plan.tokens, 3)
        assert torch.equal(window_reverse(windows, plan, True), x)


def test_pad_shift_has_one_more_window_along_each_shifted_axis() -> None:
    assert PadShiftPlan(14, 15, (7, 7)).window_grid == (3, 4)
    assert PadShiftPlan(14, 15, (1, 7)).window_grid == (14, 4)
    assert PadShiftPlan(14, 15, (7, 7)).before == (4, 4)  # the paper's padding: 4 before, 3 after


def test_frame_of_a_pad_shift_is_masked_for_any_logits() -> None:
    """The frame has no effect even where all visible logits are far below zero, so that it would dominate."""
    qkv = torch.randn(1, 3, 3, 3 * HEADS * DIM, dtype=torch.float64)
    pad = torch.full((3 * HEADS * DIM,), 30.0, dtype=torch.float64)
    bias = torch.full((HEADS, 16, 16), -500.0, dtype=torch.float64)
    out = window_attention(qkv, bias, PadShiftPlan(3, 3, (4, 4)), True, HEADS, 1.0, pad)
    expected = window_attention(qkv, None, PadShiftPlan(3, 3, (4, 4)), True, HEADS, 1.0, pad)
    assert torch.allclose(out, expected)
