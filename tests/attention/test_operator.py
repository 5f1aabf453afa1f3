"""The operator of compiled graphs against the definition: values, all gradients, PyTorch's checks of operators."""

import pytest
import torch
from torch import Tensor

from swin_backbone.attention.kernels import window_attention
from swin_backbone.attention.kernels.operator import window_attention_op
from swin_backbone.attention.plan import WindowPlan
from tests.helpers import relative_error

HEADS, DIM = 2, 4
CASES = [
    # height, width, window, shifted, pad_shift, bias, padding, one scale per head
    (7, 9, (4, 4), True, False, True, True, False),
    (7, 9, (4, 4), True, True, True, True, True),
    (8, 8, (4, 4), False, False, True, True, True),
    (3, 5, (2, 3), True, False, False, True, True),
    (5, 6, (3, 3), True, True, False, False, False),
    (1, 1, (7, 7), True, False, True, True, False),
]


def inputs(case: tuple, dtype: torch.dtype) -> tuple[list[Tensor | None], list]:
    height, width, window, shifted, pad_shift, with_bias, with_padding, with_scale = case
    tokens = window[0] * window[1]
    qkv = torch.randn(2, height, width, 3 * HEADS * DIM, dtype=dtype)
    bias = torch.randn(HEADS, tokens, tokens, dtype=dtype) if with_bias else None
    pad = torch.randn(3 * HEADS * DIM, dtype=dtype) if with_padding else None
    scale = torch.rand(HEADS, 1, 1, dtype=dtype) + 0.5 if with_scale else None
    return [qkv, bias, pad, scale], [0.5, HEADS, list(window), shifted, pad_shift]


@pytest.mark.parametrize('case', CASES)
@pytest.mark.parametrize(
    ('dtype', 'tolerance'), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.05)]
)
def test_values_and_gradients_are_the_definitions(case: tuple, dtype: torch.dtype, tolerance: float) -> None:
    tensors, options = inputs(case, dtype)
    leaves = [None if t is None else t.clone().requires_grad_() for t in tensors]
    found = window_attention_op(*leaves, *options)
    exact = [None if t is None else t.double().requires_grad_() for t in tensors]
    qkv, bias, pad, scale = exact
    height, width, window, shifted, pad_shift, *_ = case
    plan = WindowPlan(height, width, window)
    plan = plan.with_pad_shift(shifted) if pad_shift else plan
    wanted = window_attention(qkv, bias, plan, shifted, HEADS, 0.5 if scale is None else scale, pad, backend='eager')
    assert relative_error(found.double(), wanted) < tolerance
    gradient = torch.randn_like(wanted)
    found.backward(gradient.to(dtype))
    wanted.backward(gradient.to(dtype).double())
    for ours, theirs in zip(leaves, exact, strict=True):
        if ours is not None:
            theirs_grad = torch.zeros_like(theirs) if theirs.grad is None else theirs.grad
            assert relative_error(ours.grad.double(), theirs_grad) < 4 * tolerance or theirs_grad.abs().max() < 1e-12


@pytest.mark.parametrize('case', CASES[:3])
def test_pytorch_accepts_the_operator(case: tuple) -> None:
    tensors, options = inputs(case, torch.float32)
    leaves = [None if t is None else t.requires_grad_() for t in tensors]
    torch.library.opcheck(window_attention_op, (*leaves, *options))


def test_products_are_counted() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    tensors, options = inputs(CASES[0], torch.float32)
    with FlopCounterMode(display=False) as counter:
        window_attention_op(*tensors, *options)
    assert counter.get_total_flops() == 2 * 2 * (2 * 6 * 16 * 16 * HEADS * DIM)
