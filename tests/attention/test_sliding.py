"""Sliding windows: the naive implementation compared with loops, and the kernel with the naive implementation."""

import random

import pytest
import torch
from torch import Tensor

from swin_backbone.attention import sliding
from swin_backbone.attention.sliding import sliding_kernel, sliding_naive
from tests.helpers import relative_error

HEADS, DIM = 2, 4
WINDOWS = [(7, 7), (4, 4), (3, 4), (2, 1), (1, 5), (1, 1)]


def random_sizes(window: tuple[int, int], count: int = 6) -> list[tuple[int, int]]:
    draw = random.Random(window[0] * 10 + window[1])
    drawn = [(draw.randrange(1, 4 * window[0] + 2), draw.randrange(1, 4 * window[1] + 2)) for _ in range(count)]
    return [(1, 1), window, *drawn]


def token_by_token(qkv: Tensor, bias: Tensor, window: tuple[int, int], scale: Tensor) -> Tensor:
    """Compute sliding-window attention for one query and head at a time."""
    batch, height, width, _ = qkv.shape
    q, k, v = qkv.view(batch, height, width, 3, HEADS, DIM).unbind(3)
    out = torch.zeros_like(q)
    for image in range(batch):
        for row in range(height):
            for col in range(width):
                for head in range(HEADS):
                    logits, values = [], []
                    for i in range(window[0]):
                        for j in range(window[1]):
                            y, x = row + i - window[0] // 2, col + j - window[1] // 2
                            inside = 0 <= y < height and 0 <= x < width
                            product = q[image, row, col, head] @ k[image, y, x, head] if inside else None
                            logit = torch.tensor(-100.0) if product is None else product * scale[head, 0, 0]
                            logits.append(logit + bias[head, i * window[1] + j])
                            values.append(v[image, y, x, head] if inside else torch.zeros(DIM, dtype=v.dtype))
                    out[image, row, col, head] = torch.stack(logits).softmax(0) @ torch.stack(values)
    return out.flatten(-2)


def make_inputs(size: tuple[int, int], window: tuple[int, int], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    shapes = [(2, *size, 3 * HEADS * DIM), (HEADS, window[0] * window[1]), (HEADS, 1, 1)]
    return [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]


def outputs_and_gradients(inputs: list[Tensor], out: Tensor) -> list[Tensor]:
    weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    return [out, *torch.autograd.grad((out * weight).sum(), inputs, allow_unused=True, materialize_grads=True)]


def largest_difference(ours: list[Tensor], reference: list[Tensor]) -> float:
    return max(
        (a - b).abs().max().item() / max(1.0, b.abs().max().item()) for a, b in zip(ours, reference, strict=True)
    )


@pytest.mark.parametrize('window', [(3, 3), (4, 4), (3, 2)])
@pytest.mark.parametrize('size', [(1, 1), (3, 6), (5, 4)])
def test_sliding_naive_equals_loops(size: tuple[int, int], window: tuple[int, int]) -> None:
    qkv, bias, scale = (x.detach() for x in make_inputs(size, window))
    expected = token_by_token(qkv, bias, window, scale)
    assert (sliding_naive(qkv, bias, window, HEADS, scale) - expected).abs().max() < 1e-12


@pytest.mark.parametrize('window', WINDOWS)
def test_kernel_equals_naive_over_random_sizes(window: tuple[int, int]) -> None:
    worst = [0.0, 0.0]
    for size in random_sizes(window):
        inputs = make_inputs(size, window)
        qkv, bias, scale = inputs
        for arguments in ((bias, window, HEADS, scale), (bias, window, HEADS, 0.5), (None, window, HEADS, 0.5)):
            reference = outputs_and_gradients(inputs, sliding_naive(qkv, *arguments))
            ours = outputs_and_gradients(inputs, sliding_kernel(qkv, *arguments))
            worst[0] = max(worst[0], largest_difference(ours[:1], reference[:1]))
            worst[1] = max(worst[1], largest_difference(ours[1:], reference[1:]))
    print(f'kernel against naive, window {window}: forward {worst[0]:.1e}, backward {worst[1]:.1e}')
    assert max(worst) < 1e-12


def test_feature_padding_does_not_change_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    qkv, bias, scale = make_inputs((9, 5), (4, 3))
    expected = sliding_kernel(qkv, bias, (4, 3), HEADS, scale)
    monkeypatch.setattr(sliding, 'feature_multiple', lambda x: 8)
    assert largest_difference([sliding_kernel(qkv, bias, (4, 3), HEADS, scale)], [expected]) < 1e-14


@pytest.mark.parametrize('run', [sliding_naive, sliding_kernel])
def test_positions_outside_the_map_have_their_bias_and_the_value_zero(run: object) -> None:
    """The bias cancels the masked logit of the 8 positions outside, so the token has a weight of one ninth."""
    qkv = torch.randn(1, 1, 1, 3 * HEADS * DIM, dtype=torch.float64)
    bias = torch.full((HEADS, 9), 100.0, dtype=torch.float64)
    bias[:, 4] = 0.0
    out = run(qkv, bias, (3, 3), HEADS, 0.0)
    assert torch.allclose(out, qkv[..., 2 * HEADS * DIM :] / 9)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_kernel_error_in_half_precision_is_at_most_twice_that_of_naive(dtype: torch.dtype) -> None:
    inputs = make_inputs((9, 15), (7, 7), dtype)
    wide = [x.detach().float().requires_grad_() for x in inputs]
    exact = outputs_and_gradients(wide, sliding_naive(wide[0], wide[1], (7, 7), HEADS, wide[2]))
    naive, kernel = (
        outputs_and_gradients(inputs, run(inputs[0], inputs[1], (7, 7), HEADS, inputs[2]))
        for run in (sliding_naive, sliding_kernel)
    )
    for exact_value, reference, ours in zip(exact, naive, kernel, strict=True):
        allowed = 2 * relative_error(reference.float(), exact_value) + 2 * torch.finfo(dtype).eps
        assert relative_error(ours.float(), exact_value) <= allowed


@pytest.mark.parametrize('run', [sliding_naive, sliding_kernel])
def test_dropout_is_applied(run: object) -> None:
    qkv, bias, _ = make_inputs((5, 6), (3, 3), torch.float32)
    plain, dropped = (run(qkv, bias, (3, 3), HEADS, 1.0, dropout) for dropout in (0.0, 0.5))
    assert not torch.allclose(plain, dropped)
