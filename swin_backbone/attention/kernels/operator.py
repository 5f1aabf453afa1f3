"""Window attention as one operator, ``torch.ops.swin_backbone.window_attention``: what compiled graphs hold.

The geometry of windows depends on the image size. Traced step by step it would be part of a graph, which would then be
compiled again for each size; here it stays inside the operator, whose shapes follow from those of ``qkv`` alone. The
backward pass is written out and recomputes the weights, so nothing but the inputs is kept between the passes.

Both passes use the Triton kernels where these can run.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from swin_backbone.attention.kernels import fused
from swin_backbone.attention.kernels.cpu import attend_in_groups, works_in_groups
from swin_backbone.attention.kernels.eager import widen
from swin_backbone.attention.kernels.sdpa import window_attention_sdpa
from swin_backbone.attention.plan import CONSTANTS, WindowPlan, window_partition, window_reverse
from swin_backbone.errors import InputError


def unchanged(x: Tensor) -> Tensor:
    """``x``: the projections are outside the operator."""
    return x


def plan_for(qkv: Tensor, window: list[int], shifted: bool, pad_shift: bool) -> tuple[WindowPlan, bool]:
    """The plan of a map, and whether its windows are really shifted."""
    plan = WindowPlan(qkv.shape[1], qkv.shape[2], (window[0], window[1]))
    shifted = shifted and plan.shift != (0, 0)
    return (plan.with_pad_shift(shifted) if pad_shift else plan), shifted


def uses_triton(qkv: Tensor, plan: WindowPlan, num_heads: int, backend: str) -> bool:
    """Whether the Triton kernels compute attention within the windows of ``qkv`` ``[B, H, W, 3C]``.

    Raises:
        InputError: ``backend`` is 'triton', and they cannot.
    """
    if backend not in ('auto', 'triton'):
        return False
    reason = fused.why_not(qkv, plan, num_heads, dropout=0.0)
    if reason and backend == 'triton':
        raise InputError(refusal(reason))
    return reason is None


def refusal(reason: str) -> str:
    """The error of ``backend='triton'`` where the kernels cannot run."""
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
) -> Tensor:
    """Window attention without dropout; see :func:`swin_backbone.attention.kernels.window_attention`.

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
    """
    plan, shifted = plan_for(qkv, window, shifted, pad_shift)
    per_head = factor if scale is None else scale
    if uses_triton(qkv, plan, num_heads, backend):
        return fused.attend(qkv, bias, pad_value, per_head, num_heads, plan, shifted)
    with torch.no_grad():  # below autograd, which has saved the inputs
        if works_in_groups(qkv):
            return attend_in_groups(qkv, unchanged, unchanged, bias, plan, shifted, num_heads, per_head, pad_value)
    return window_attention_sdpa(qkv, bias, plan, shifted, num_heads, per_head, pad_value, 0.0).contiguous()


@window_attention_op.register_fake
def _fake(
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
) -> Tensor:
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
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of ``qkv``, ``bias``, ``pad_value`` and ``scale``; empty tensors for those that are None."""
    plan, shifted = plan_for(qkv, window, shifted, pad_shift)
    per_head = factor if scale is None else scale
    fits = plan.tokens <= fused.TILE_TOKENS
    compute = fused.gradients if fits and uses_triton(qkv, plan, num_heads, backend) else gradients
    d_qkv, *others = compute(gradient, qkv, bias, pad_value, per_head, num_heads, plan, shifted)
    # An operator may not return one tensor twice, hence a new one for each that is absent.
    d_bias, d_pad, d_scale = (qkv.new_empty(0) if other is None else other for other in others)
    return d_qkv, d_bias, d_pad, d_scale


def gradients(
    gradient: Tensor,
    qkv: Tensor,
    bias: Tensor | None,
    pad_value: Tensor | None,
    scale: float | Tensor,
    num_heads: int,
    plan: WindowPlan,
    shifted: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of ``qkv``, ``bias``, ``pad_value`` and a tensor ``scale``, by PyTorch's operators."""
    batch, channels = qkv.shape[0], qkv.shape[-1] // 3
    dim = channels // num_heads
    parts = window_partition(qkv, plan, shifted, pad_value).reshape(
        batch, plan.num_windows, plan.tokens, 3, num_heads, dim
    )
    q, k, v = parts.permute(3, 0, 1, 4, 2, 5)  # each [B, nW, heads, N, d]
    # Frames of a shift by padding and cropped padding get no gradient: their outputs are read nowhere.
    d_out = window_partition(gradient, plan, shifted).reshape(batch, plan.num_windows, plan.tokens, num_heads, dim)
    d_out = d_out.transpose(2, 3)

    q_scaled = (q * scale).to(k.dtype)
    logits = widen(q_scaled @ k.transpose(-2, -1))
    if bias is not None:
        logits = logits + widen(bias)
    if shifted:
        logits = logits + plan.mask(qkv).to(logits.dtype)[:, None]
    weights = logits.softmax(dim=-1)
    d_weights = widen(d_out @ v.transpose(-2, -1))
    d_logits = weights * (d_weights - (d_weights * weights).sum(-1, keepdim=True))

    low = d_logits.to(k.dtype)
    d_q_scaled = widen(low @ k)
    d_q = (d_q_scaled * scale).to(qkv.dtype)
    d_k = low.transpose(-2, -1) @ q_scaled
    d_v = weights.to(v.dtype).transpose(-2, -1) @ d_out
    d_parts = torch.stack([d_q, d_k, d_v], dim=2)  # [B, nW, 3, heads, N, d]
    d_windows = d_parts.permute(0, 1, 4, 2, 3, 5).reshape(batch, plan.num_windows, plan.tokens, 3 * channels)

    d_bias = None if bias is None else d_logits.sum((0, 1)).to(bias.dtype)
    d_scale = None
    if isinstance(scale, Tensor):
        d_scale = (d_q_scaled * widen(q)).sum((0, 1, 3, 4)).view_as(scale).to(scale.dtype)
    d_pad = None
    if pad_value is not None:
        padding = d_windows.flatten(0, 2)[padded_rows(plan, shifted, batch, qkv)]
        d_pad = widen(padding).sum(0).to(pad_value.dtype)
    return window_reverse(d_windows, plan, shifted).contiguous(), d_bias, d_pad, d_scale


def padded_rows(plan: WindowPlan, shifted: bool, batch: int, like: Tensor) -> Tensor:
    """Which rows of the windows ``[B * nW * N]`` hold ``pad_value``: padding at the right and bottom, not a frame."""
    return CONSTANTS.get(like, build_padded_rows, plan, shifted, batch)


def build_padded_rows(plan: WindowPlan, shifted: bool, batch: int) -> Tensor:
    """See :func:`padded_rows`; indices, so that they stay small."""
    padding = window_partition(torch.zeros(batch, plan.height, plan.width, 1), plan, shifted, torch.ones(1))
    return padding.flatten().nonzero()[:, 0]


@window_attention_backward.register_fake
def _fake_backward(
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


def window_attention_triton(
    qkv: Tensor,
    bias: Tensor | None,
    plan: WindowPlan,
    shifted: bool,
    num_heads: int,
    scale: float | Tensor,
    pad_value: Tensor | None,
    dropout: float,
) -> Tensor:
    """See :func:`swin_backbone.attention.kernels.window_attention` for meaning and shapes; by the Triton kernels.

    Raises:
        InputError: they cannot run.
    """
    if reason := fused.why_not(qkv, plan, num_heads, dropout):
        raise InputError(refusal(reason))
    tensor, factor = (scale, 1.0) if isinstance(scale, Tensor) else (None, scale)
    out: Tensor = window_attention_op(
        qkv, bias, pad_value, tensor, factor, num_heads, list(plan.window), shifted, False, 'triton'
    )
    return out


def products(qkv_shape: Any, window: list[int]) -> int:
    """Multiply-adds of one product of queries with keys, over all windows and heads of a map, padding included."""
    batch, height, width, channels = qkv_shape
    windows = batch * -(-height // window[0]) * -(-width // window[1])
    return windows * (window[0] * window[1]) ** 2 * (channels // 3)


@register_flop_formula(torch.ops.swin_backbone.window_attention)
def _flops(
    qkv: Any, bias: Any, pad: Any, scale: Any, factor: float, heads: int, window: list[int], *_: Any, **__: Any
) -> int:
    return 2 * 2 * products(qkv, window)


@register_flop_formula(torch.ops.swin_backbone.window_attention_backward)
def _flops_backward(
    gradient: Any,
    qkv: Any,
    bias: Any,
    pad: Any,
    scale: Any,
    factor: float,
    heads: int,
    window: list[int],
    *_: Any,
    **__: Any,
) -> int:
    return 2 * 5 * products(qkv, window)
