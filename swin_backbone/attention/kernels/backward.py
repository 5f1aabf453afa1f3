"""The backward pass of window attention in PyTorch operators."""

import torch
from torch import Tensor

from swin_backbone.attention.kernels.arguments import Arguments
from swin_backbone.attention.kernels.eager import unit, widen
from swin_backbone.attention.window_plan import CONSTANTS, WindowPlan, window_partition, window_reverse

Gradients = tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]
"""Gradients of ``qkv``, ``bias``, ``pad_value`` and ``scale``; None for arguments that are not tensors."""

MIN_NORM = 1e-12
"""Lower bound of a norm that divides, as in :func:`torch.nn.functional.normalize`."""


def gradients(d_out: Tensor, given: Arguments) -> Gradients:
    """Compute the gradients of window attention without dropout from that of its output ``[B, H, W, C]``."""
    plan, shifted, scale, qkv = given.plan, given.shifted, given.scale, given.qkv
    batch, channels, heads, dim = qkv.shape[0], given.channels, given.num_heads, given.dim
    parts = window_partition(qkv, plan, shifted, given.pad_value)
    parts = parts.reshape(batch, plan.num_windows, plan.tokens, 3, heads, dim)
    raw_q, raw_k, v = parts.permute(3, 0, 1, 4, 2, 5)  # each [B, nW, heads, N, d]
    q, k = (unit(raw_q), unit(raw_k)) if given.cosine else (raw_q, raw_k)
    # The outputs of padding, and of the frame of a shift by padding, are cropped, so their gradient is zero.
    d_out = window_partition(d_out, plan, shifted).reshape(batch, plan.num_windows, plan.tokens, heads, dim)
    d_out = d_out.transpose(2, 3)

    q_scaled = (q * scale).to(k.dtype)
    logits = widen(q_scaled @ k.transpose(-2, -1))
    if given.bias is not None:
        logits = logits + widen(given.bias)
    if shifted:
        logits = logits + plan.mask(qkv).to(logits.dtype)[:, None]
    weights = logits.softmax(dim=-1)
    d_weights = widen(d_out @ v.transpose(-2, -1))
    d_logits = weights * (d_weights - (d_weights * weights).sum(-1, keepdim=True))

    low = d_logits.to(k.dtype)
    d_q_scaled = widen(low @ k)
    d_q, d_k = d_q_scaled * scale, low.transpose(-2, -1) @ q_scaled
    if given.cosine:
        d_q, d_k = gradient_of_direction(d_q, raw_q), gradient_of_direction(widen(d_k), raw_k)
    d_v = weights.to(v.dtype).transpose(-2, -1) @ d_out
    d_parts = torch.stack([d_q.to(qkv.dtype), d_k.to(qkv.dtype), d_v], dim=2)  # [B, nW, 3, heads, N, d]
    d_windows = d_parts.permute(0, 1, 4, 2, 3, 5).reshape(batch, plan.num_windows, plan.tokens, 3 * channels)

    d_bias = None if given.bias is None else d_logits.sum((0, 1)).to(given.bias.dtype)
    d_scale = None
    if isinstance(scale, Tensor):
        d_scale = (d_q_scaled * widen(q)).sum((0, 1, 3, 4)).view_as(scale).to(scale.dtype)
    d_pad = None
    if given.pad_value is not None:
        padding = d_windows.flatten(0, 2)[padded_rows(plan, shifted, batch, qkv)]
        d_pad = widen(padding).sum(0).to(given.pad_value.dtype)
    return window_reverse(d_windows, plan, shifted).contiguous(), d_bias, d_pad, d_scale


def gradient_of_direction(d_unit: Tensor, x: Tensor) -> Tensor:
    """Compute the gradient of ``x`` ``[..., d]`` from that of ``unit(x)``; zero for zero vectors."""
    x = widen(x)
    length = x.norm(dim=-1, keepdim=True)
    direction = x / length.clamp_min(MIN_NORM)
    across = d_unit - direction * (d_unit * direction).sum(-1, keepdim=True)
    return torch.where(length > MIN_NORM, across / length.clamp_min(MIN_NORM), 0.0)


def padded_rows(plan: WindowPlan, shifted: bool, batch: int, like: Tensor) -> Tensor:
    """Return the rows of the windows ``[B * nW * N]`` that are ``pad_value``: padding at the right and bottom."""
    return CONSTANTS.get(like, build_padded_rows, plan, shifted, batch)


def build_padded_rows(plan: WindowPlan, shifted: bool, batch: int) -> Tensor:
    """Compute :func:`padded_rows`: indices, which need less memory than a mask."""
    padding = window_partition(torch.zeros(batch, plan.height, plan.width, 1), plan, shifted, torch.ones(1))
    return padding.flatten().nonzero()[:, 0]
