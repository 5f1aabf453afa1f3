"""Attention on tokens in window order, as used for training on a CPU, compared with eager."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from swin_backbone.attention.kernels import window_attention
from swin_backbone.attention.kernels.window_order import Attend, attend, attend_in_windows, can_train_in_windows
from swin_backbone.attention.window_plan import WindowPlan
from tests.helpers import tiny_backbone

HEADS, DIM = 2, 8
CHANNELS = HEADS * DIM
SIZES = [(1, 1), (3, 5), (7, 7), (8, 13), (14, 9), (29, 22)]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}


def relative(ours: Tensor, reference: Tensor) -> float:
    return ((ours.double() - reference.double()).norm() / reference.double().norm().clamp_min(1e-6)).item()


@pytest.mark.parametrize('dtype', TOLERANCE)
@pytest.mark.parametrize('kind', ['none', 'cyclic', 'padding'])
@pytest.mark.parametrize('window', [(7, 7), (3, 4), (1, 5)])
def test_attend_in_windows_equals_eager(dtype: torch.dtype, kind: str, window: tuple[int, int]) -> None:
    shifted, tokens = kind != 'none', window[0] * window[1]
    project = nn.Linear(CHANNELS, 3 * CHANNELS).to(dtype)
    finish = nn.Linear(CHANNELS, CHANNELS).to(dtype)
    for size in SIZES:
        plan = WindowPlan(*size, window)
        plan = plan.with_pad_shift(shifted) if kind == 'padding' else plan
        x = torch.randn(2, *size, CHANNELS, dtype=dtype, requires_grad=True)
        bias = torch.randn(HEADS, tokens, tokens, dtype=dtype, requires_grad=True)
        scale = torch.tensor([3.0, 0.5], dtype=dtype).view(2, 1, 1).requires_grad_()
        for given, factor in ((bias, DIM**-0.5), (None, DIM**-0.5), (bias, scale)):
            inputs = [
                x,
                *project.parameters(),
                *finish.parameters(),
                *(t for t in (given, factor) if t is bias or t is scale),
            ]
            expected = finish(
                window_attention(project(x), given, plan, shifted, HEADS, factor, project.bias, backend='eager')
            )
            actual = attend_in_windows(x, project, finish, given, plan, shifted, HEADS, factor)
            weight = torch.randn_like(expected)
            reference = torch.autograd.grad((expected * weight).sum(), inputs)
            ours = torch.autograd.grad((actual * weight).sum(), inputs)
            for one, other in zip((actual, *ours), (expected, *reference), strict=True):
                if other.norm() > 1e-4 * other.numel() ** 0.5:  # keys of a window of one token have zero gradient
                    assert relative(one, other) < TOLERANCE[dtype]


@pytest.mark.parametrize('shifted', [False, True])
def test_attend_in_windows_error_in_bfloat16_is_at_most_twice_that_of_eager(shifted: bool) -> None:
    plan = WindowPlan(29, 22, (7, 7))
    shapes = (2, 29, 22, CHANNELS), (3 * CHANNELS, CHANNELS), (3 * CHANNELS,), (HEADS, 49, 49)
    values = [torch.randn(shape).bfloat16().double() for shape in shapes]

    def run(windows: bool, dtype: torch.dtype) -> list[Tensor]:
        x, weight, offset, bias = inputs = [value.to(dtype).requires_grad_() for value in values]

        def project(tokens: Tensor) -> Tensor:
            return nn.functional.linear(tokens, weight, offset)

        rest = (bias, plan, shifted, HEADS, DIM**-0.5)
        if windows:
            out = attend_in_windows(x, project, nn.Identity(), *rest)
        else:
            out = window_attention(project(x), *rest, offset, backend='eager')
        return [out, *torch.autograd.grad(out.double().square().sum(), inputs)]

    triples = zip(run(True, torch.bfloat16), run(False, torch.bfloat16), run(False, torch.float64), strict=True)
    for ours, definition, exact in triples:
        assert relative(ours, exact) <= 2 * (relative(definition, exact) + torch.finfo(torch.bfloat16).eps)


@pytest.mark.parametrize('tensor_scale', [False, True])
@pytest.mark.parametrize('masked', [False, True])
def test_attend_gradients_equal_finite_differences(tensor_scale: bool, masked: bool) -> None:
    x = torch.randn(3, 4, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    mask = -100.0 * torch.rand(2, 3, 3).round().double() if masked else None
    scale: Any = torch.rand(2, 1, 1, dtype=torch.float64, requires_grad=True) if tensor_scale else 0.7
    inputs = (x, bias, mask, scale)
    assert torch.equal(Attend.apply(*inputs), attend(*inputs)[0])
    assert torch.autograd.gradcheck(Attend.apply, inputs)
    assert torch.autograd.gradgradcheck(Attend.apply, inputs)


def test_frozen_inputs_get_no_gradient() -> None:
    x = torch.randn(3, 4, 2, 3, 2)
    bias = torch.randn(2, 3, 3, requires_grad=True)
    Attend.apply(x, bias, None, 0.7).sum().backward()
    assert bias.grad is not None and x.grad is None


def test_torch_func_grad_equals_backward() -> None:
    model = tiny_backbone(depths=(2,), num_heads=(1,), out_indices=(0,))
    image = torch.randn(1, 3, 33, 40)
    parameters = dict(model.named_parameters())

    def loss(values: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(model, values, (image,))[0].square().mean()

    assert can_train_in_windows(image)
    found = torch.func.grad(loss)(parameters)
    loss(parameters).backward()
    for name, parameter in parameters.items():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-3, atol=1e-6)
