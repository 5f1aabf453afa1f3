"""Window attention as one operator, ``torch.ops.swin_backbone.window_attention``, for compiled graphs.

The geometry of windows depends on the image size. If it were traced, a graph would be recompiled for each size; here it
is inside the operator, whose output shape depends only on that of ``qkv``. The backward pass is handwritten and
recomputes the weights, so only the inputs are saved.

Both passes use the Triton kernels if these can run.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from swin_backbone.attention.kernels import triton_launch
from swin_backbone.attention.kernels.arguments import Arguments
from swin_backbone.attention.kernels.backward import gradients
from swin_backbone.attention.kernels.cpu import attend_in_groups, can_run_in_groups
from swin_backbone.attention.kernels.sdpa import window_attention_sdpa
from swin_backbone.attention.window_plan import WindowPlan
from swin_backbone.errors import InputError


def identity(x: Tensor) -> Tensor:
    """Return ``x``: the projections are outside the operator."""
    return x


def gather(
    qkv: Tensor,
    bias: Tensor | None,
    pad_value: Tensor | None,
    scale: Tensor | None,
    factor: float,
    num_heads: int,
    window: list[int],
    shifted: bool,
    pad_shift: bool,
    cosine: bool,
) -> Arguments:
    """Build :class:`Arguments` from the operator's arguments."""
    plan = WindowPlan(qkv.shape[1], qkv.shape[2], (window[0], window[1]))
    shifted = shifted and plan.shift != (0, 0)
    plan = plan.with_pad_shift(shifted) if pad_shift else plan
    return Arguments(qkv, bias, pad_value, factor if scale is None else scale, num_heads, plan, shifted, cosine)


def uses_triton(given: Arguments, backend: str) -> bool:
    """Return whether the Triton kernels compute attention.

    Raises:
        InputError: if ``backend`` is 'triton' and they cannot run.
    """
    if backend not in ('auto', 'triton'):
        return False
    reason = triton_launch.unsupported_reason(given, dropout=0.0)
    if reason and backend == 'triton':
        raise InputError(unavailable_message(reason))
    return reason is None


def unavailable_message(reason: str) -> str:
    """Return the error message for ``backend='triton'`` if the kernels cannot run."""
    return f"backend='triton' cannot run here: {reason}; use backend='auto'."


@torch.library.custom_op('swin_backbone::window_attention', mutates_args=())
def window_attention_op(
    qkv: Tensor,
    bias: Tensor | None,
    pad_value: Tensor | None,
    scale: Tensor | None,
    factor: float,
    num_heads: int,
    window: list[int],
    shifted: bool,
    pad_shift: bool,
    backend: str = 'auto',
    cosine: bool = False,
) -> Tensor:
    """Compute :func:`swin_backbone.attention.kernels.window_attention` without dropout.

    Args:
        qkv: ``[B, H, W, 3C]``.
        bias: ``[heads, N, N]``.
        pad_value: ``[3C]``.
        scale: factor on the logits per head ``[heads, 1, 1]``, or None for ``factor``.
        factor: factor on the logits where ``scale`` is None.
        num_heads: attention heads.
        window: rows and columns of a window.
        shifted: whether the windows are shifted.
        pad_shift: whether the shift pads the map instead of rolling it.
        backend: 'auto' or 'triton'; any other name excludes the Triton kernels.
        cosine: whether queries and keys are normalized to unit length first.
    """
    given = gather(qkv, bias, pad_value, scale, factor, num_heads, window, shifted, pad_shift, cosine)
    if uses_triton(given, backend):
        return triton_launch.attend(given)
    with torch.no_grad():  # the operator's own backward pass computes gradients
        if can_run_in_groups(qkv) and not cosine:
            return attend_in_groups(
                qkv, identity, identity, bias, given.plan, given.shifted, num_heads, given.scale, pad_value
            )
    return window_attention_sdpa(given, 0.0).contiguous()


@window_attention_op.register_fake
def _fake(qkv: Tensor, *_: Any, **__: Any) -> Tensor:
    return qkv.new_empty(*qkv.shape[:3], qkv.shape[3] // 3)


@torch.library.custom_op('swin_backbone::window_attention_backward', mutates_args=())
def window_attention_backward(
    gradient: Tensor,
    qkv: Tensor,
    bias: Tensor | None,
    pad_value: Tensor | None,
    scale: Tensor | None,
    factor: float,
    num_heads: int,
    window: list[int],
    shifted: bool,
    pad_shift: bool,
    backend: str = 'auto',
    cosine: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute the gradients of ``qkv``, ``bias``, ``pad_value`` and ``scale``; empty tensors for absent inputs."""
    given = gather(qkv, bias, pad_value, scale, factor, num_heads, window, shifted, pad_shift, cosine)
    fits = given.plan.tokens <= triton_launch.TILE_TOKENS
    compute = triton_launch.gradients if fits and uses_triton(given, backend) else gradients
    d_qkv, *others = compute(gradient, given)
    # An operator must not return the same tensor twice, so each absent gradient is a new tensor.
    d_bias, d_pad, d_scale = (qkv.new_empty(0) if other is None else other for other in others)
    return d_qkv, d_bias, d_pad, d_scale


@window_attention_backward.register_fake
def _fake_backward(
    gradient: Tensor,
    qkv: Tensor,
    bias: Tensor | None,
    pad_value: Tensor | None,
    scale: Tensor | None,
    *_: Any,
    **__: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    others = [qkv.new_empty(0) if value is None else torch.empty_like(value) for value in (bias, pad_value, scale)]
    return qkv.new_empty(qkv.shape), others[0], others[1], others[2]


def _keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.options = inputs[4:]


def _backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    saved = ctx.saved_tensors
    d_qkv, *others = window_attention_backward(gradient.contiguous(), *saved, *ctx.options)
    given = [None if value is None else found for value, found in zip(saved[1:], others, strict=True)]
    return (d_qkv, *given, *[None] * len(ctx.options))


window_attention_op.register_autograd(_backward, setup_context=_keep_inputs)


def window_attention_triton(given: Arguments, dropout: float) -> Tensor:
    """Compute :func:`swin_backbone.attention.kernels.window_attention` with the Triton kernels.

    Raises:
        InputError: if they cannot run.
    """
    if reason := triton_launch.unsupported_reason(given, dropout):
        raise InputError(unavailable_message(reason))
    scale, factor = (given.scale, 1.0) if isinstance(given.scale, Tensor) else (None, given.scale)
    out: Tensor = window_attention_op(
        given.qkv, given.bias, given.pad_value, scale, factor, given.num_heads, list(given.plan.window), given.shifted,
        pad_shift=False, backend='triton', cosine=given.cosine,
    )  # fmt: skip
    return out


def products(qkv_shape: Any, window: list[int]) -> int:
    """Count the multiply-adds of the product of queries and keys of a map, including padding."""
    batch, height, width, channels = qkv_shape
    windows = batch * -(-height // window[0]) * -(-width // window[1])
    return windows * (window[0] * window[1]) ** 2 * (channels // 3)


@register_flop_formula(torch.ops.swin_backbone.window_attention)
def _flops(
    qkv: Any, bias: Any, pad: Any, scale: Any, factor: float, heads: int, window: list[int], *_: Any, **__: Any
) -> int:
    return 2 * 2 * products(qkv, window)


@register_flop_formula(torch.ops.swin_backbone.window_attention_backward)
def _flops_backward(gradient: Any, *args: Any, **options: Any) -> int:
    return 5 * _flops(*args, **options) // 2
