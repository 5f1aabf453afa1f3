"""The custom operator compared with eager: values and all gradients; and PyTorch's operator checks."""

import pytest
import torch
from torch import Tensor

from swin_backbone.attention.kernels import window_attention
from swin_backbone.attention.kernels.backward import gradient_of_direction
from swin_backbone.attention.kernels.custom_operator import window_attention_op
from swin_backbone.attention.kernels.eager import unit
from swin_backbone.attention.window import CosineWindowAttention
from swin_backbone.attention.window_plan import WindowPlan
from tests.helpers import relative_error, tiny_backbone

HEADS, DIM = 2, 4
CASES = [
    # height, width, window, shifted, pad_shift, bias, padding, one scale per head, cosine
    (7, 9, (4, 4), True, False, True, True, False, False),
    (7, 9, (4, 4), True, True, True, True, True, False),
    (7, 9, (4, 4), True, False, True, True, True, True),
    (8, 8, (4, 4), False, False, True, True, True, False),
    (3, 5, (2, 3), True, True, False, True, False, True),
    (5, 6, (3, 3), True, True, False, False, False, False),
    (1, 1, (7, 7), True, False, True, True, False, False),
]


def inputs(case: tuple, dtype: torch.dtype) -> tuple[list[Tensor | None], list]:
    height, width, window, shifted, pad_shift, with_bias, with_padding, with_scale, cosine = case
    tokens = window[0] * window[1]
    qkv = torch.randn(2, height, width, 3 * HEADS * DIM, dtype=dtype)
    bias = torch.randn(HEADS, tokens, tokens, dtype=dtype) if with_bias else None
    pad = torch.randn(3 * HEADS * DIM, dtype=dtype) if with_padding else None
    scale = torch.rand(HEADS, 1, 1, dtype=dtype) + 0.5 if with_scale else None
    return [qkv, bias, pad, scale], [0.5, HEADS, list(window), shifted, pad_shift, 'auto', cosine]


@pytest.mark.parametrize('case', CASES)
@pytest.mark.parametrize(
    ('dtype', 'tolerance'), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.05)]
)
def test_operator_values_and_gradients_equal_eager(case: tuple, dtype: torch.dtype, tolerance: float) -> None:
    tensors, options = inputs(case, dtype)
    leaves = [None if t is None else t.clone().requires_grad_() for t in tensors]
    found = window_attention_op(*leaves, *options)
    exact = [None if t is None else t.double().requires_grad_() for t in tensors]
    qkv, bias, pad, scale = exact
    height, width, window, shifted, pad_shift, *_, cosine = case
    plan = WindowPlan(height, width, window)
    plan = plan.with_pad_shift(shifted) if pad_shift else plan
    factor = 0.5 if scale is None else scale
    wanted = window_attention(qkv, bias, plan, shifted, HEADS, factor, pad, backend='eager', cosine=cosine)
    assert relative_error(found.double(), wanted) < tolerance
    gradient = torch.randn_like(wanted)
    found.backward(gradient.to(dtype))
    wanted.backward(gradient.to(dtype).double())
    for ours, reference in zip(leaves, exact, strict=True):
        if ours is not None:
            reference_grad = torch.zeros_like(reference) if reference.grad is None else reference.grad
            assert (
                relative_error(ours.grad.double(), reference_grad) < 4 * tolerance or reference_grad.abs().max() < 1e-12
            )


@pytest.mark.parametrize('case', CASES[:4])
def test_operator_passes_opcheck(case: tuple) -> None:
    tensors, options = inputs(case, torch.float32)
    leaves = [None if t is None else t.requires_grad_() for t in tensors]
    torch.library.opcheck(window_attention_op, (*leaves, *options))


def test_gradient_of_direction_equals_autograd_and_is_zero_for_zero_vectors() -> None:
    x = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    gradient = torch.randn(5, 4, dtype=torch.float64)
    wanted = torch.autograd.grad(unit(x), x, gradient)[0]
    torch.testing.assert_close(gradient_of_direction(gradient, x.detach()), wanted)
    assert gradient_of_direction(gradient, torch.zeros(5, 4)).abs().max() == 0


def test_operator_flops_are_counted() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    tensors, options = inputs(CASES[0], torch.float32)
    with FlopCounterMode(display=False) as counter:
        window_attention_op(*tensors, *options)
    assert counter.get_total_flops() == 2 * 2 * (2 * 6 * 16 * 16 * HEADS * DIM)


@pytest.mark.parametrize('backend', ['eager', 'sdpa'])
def test_v2_is_the_same_if_the_kernel_normalizes(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU the kernels normalize queries and keys; this simulates it on the CPU."""
    model, image = tiny_backbone(version=2, backend=backend).double(), torch.randn(2, 3, 90, 70, dtype=torch.float64)

    def results() -> list[Tensor]:
        maps = model(image)
        grads = torch.autograd.grad(sum(m.square().mean() for m in maps), list(model.parameters()))
        return [*maps, *grads]

    def raw(self: CosineWindowAttention, x: Tensor, pad_value: Tensor | None) -> tuple[Tensor, Tensor | None, bool]:
        return self.queries_keys_values(x), self.qkv_bias(), True

    monkeypatch.setattr('swin_backbone.attention.window.can_train_in_windows', lambda x: False)
    wanted = results()
    monkeypatch.setattr(CosineWindowAttention, 'kernel_inputs', raw)
    for ours, reference in zip(results(), wanted, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-12)
