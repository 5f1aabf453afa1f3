"""The sdpa backend compared with the eager one, forward and gradients."""

import pytest
import torch

from swin_backbone.attention.kernels import window_attention
from swin_backbone.attention.window_plan import WindowPlan
from swin_backbone.errors import InputError
from tests.helpers import relative_error

SIZES = [(1, 1), (3, 5), (7, 7), (8, 13), (14, 9), (6, 21)]
HEADS, DIM = 2, 8


def make_inputs(height: int, width: int, window: tuple[int, int], dtype: torch.dtype) -> list[torch.Tensor]:
    tokens = window[0] * window[1]
    shapes = [(2, height, width, 3 * HEADS * DIM), (HEADS, tokens, tokens), (3 * HEADS * DIM,)]
    return [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]


def run(backend: str, inputs: list[torch.Tensor], window: tuple[int, int], shifted: bool, **options: object) -> list:
    """Return the output and the gradients of all inputs."""
    qkv, bias, pad = (x.detach().clone().requires_grad_() for x in inputs)
    plan = WindowPlan(qkv.shape[1], qkv.shape[2], window)
    scale = options.get('scale', DIM**-0.5)
    out = window_attention(
        qkv, bias if options.get('bias', True) else None, plan, shifted, HEADS, scale,
        pad_value=pad if options.get('pad', True) else None, backend=backend,
    )  # fmt: skip
    torch.manual_seed(1)
    (out.float() * torch.randn(out.shape)).sum().backward()
    return [out] + [x.grad for x in (qkv, bias, pad) if x.grad is not None]


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('window', [(7, 7), (3, 4), (1, 1)])
@pytest.mark.parametrize('shifted', [False, True])
def test_sdpa_equals_eager(size: tuple[int, int], window: tuple[int, int], shifted: bool) -> None:
    inputs = make_inputs(*size, window, torch.float32)
    for options in ({}, {'bias': False}, {'pad': False}, {'scale': torch.tensor([3.0, 0.5]).view(2, 1, 1)}):
        expected = run('eager', inputs, window, shifted, **options)
        actual = run('sdpa', inputs, window, shifted, **options)
        assert len(expected) == len(actual)
        for reference, ours in zip(expected, actual, strict=True):
            assert relative_error(ours, reference) < 2e-5


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('shifted', [False, True])
def test_sdpa_error_in_half_precision_is_at_most_twice_that_of_eager(dtype: torch.dtype, shifted: bool) -> None:
    """Errors are relative to eager in float32."""
    inputs = make_inputs(8, 13, (7, 7), dtype)
    exact = run('eager', [x.detach().float() for x in inputs], (7, 7), shifted)
    eager, fused = (run(backend, inputs, (7, 7), shifted) for backend in ('eager', 'sdpa'))
    for exact_value, reference, ours in zip(exact, eager, fused, strict=True):
        allowed = 2 * relative_error(reference.float(), exact_value) + torch.finfo(dtype).eps
        assert relative_error(ours.float(), exact_value) <= allowed


def test_eager_equals_the_softmax_formula_on_one_window() -> None:
    qkv, bias, _ = make_inputs(3, 3, (3, 3), torch.float64)
    out = window_attention(qkv, bias, WindowPlan(3, 3, (3, 3)), False, HEADS, 0.3, backend='eager')
    for image in range(2):
        for head in range(HEADS):
            q, k, v = (qkv[image].reshape(9, 3, HEADS, DIM)[:, part, head] for part in range(3))
            expected = (0.3 * q @ k.T + bias[head]).softmax(-1) @ v
            assert torch.allclose(out[image].reshape(9, HEADS, DIM)[:, head], expected)


def test_padded_tokens_act_as_keys_with_the_pad_value() -> None:
    """There is one real token in a 2x2 window, so the output mixes its value with three times that of padding."""
    qkv, _, pad = make_inputs(1, 1, (2, 2), torch.float64)
    out = window_attention(qkv, None, WindowPlan(1, 1, (2, 2)), False, HEADS, 1.0, pad_value=pad, backend='eager')
    q, k, v = qkv[0, 0, 0].view(3, HEADS, DIM)
    _, pad_k, pad_v = pad.view(3, HEADS, DIM)
    logits = torch.stack([(q * k).sum(-1), *3 * [(q * pad_k).sum(-1)]])
    weights = logits.softmax(0)
    expected = weights[0, :, None] * v + weights[1:].sum(0)[:, None] * pad_v
    assert torch.allclose(out[0, 0, 0], expected.flatten())


def test_dropout_is_applied_in_both_backends() -> None:
    inputs = make_inputs(7, 7, (7, 7), torch.float32)
    for backend in ('eager', 'sdpa'):
        out = window_attention(
            inputs[0], None, WindowPlan(7, 7, (7, 7)), True, HEADS, 1.0, dropout=0.5, backend=backend
        )
        plain = window_attention(inputs[0], None, WindowPlan(7, 7, (7, 7)), True, HEADS, 1.0, backend=backend)
        assert not torch.allclose(out, plain)


def test_unknown_backend_and_wrong_size_raise_input_error() -> None:
    qkv = torch.randn(1, 2, 2, 3 * HEADS * DIM)
    with pytest.raises(InputError, match='unknown backend'):
        window_attention(qkv, None, WindowPlan(2, 2, (2, 2)), False, HEADS, 1.0, backend='fast')
    with pytest.raises(InputError, match='from the plan'):
        window_attention(qkv, None, WindowPlan(3, 2, (2, 2)), False, HEADS, 1.0)
