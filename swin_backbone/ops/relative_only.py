"""Attention by position alone: the paper's 'rel. pos. w/o app.' (Swin paper, Table 4)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from swin_backbone.ops.eager import widen
from swin_backbone.ops.geometry import WindowPlan, join, split


def relative_only_attention(
    values: Tensor,
    bias: Tensor,
    plan: WindowPlan,
    shifted: bool,
    num_heads: int,
    pad_value: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Average the values of every window with the softmax of bias and mask: no queries, no keys.

    Args:
        values: values of the real tokens ``[B, H, W, C]``, ordered heads x head dim.
        bias: the logits ``[heads, N, N]``, the same in every window.
        plan: how ``(H, W)`` is cut into windows of ``N`` tokens.
        shifted: whether the windows are displaced by ``plan.shift``, with the mask that this needs.
        num_heads: attention heads.
        pad_value: value of a padded token ``[C]``; zeros if None.
        dropout: probability of dropping an attention weight; 0 outside training.

    Returns:
        The attended values of the real tokens ``[B, H, W, C]``.
    """
    shifted = shifted and plan.shift != (0, 0)
    windows = split(values, plan, shifted, pad_value)  # [B, nW, N, C]
    v = windows.unflatten(-1, (num_heads, -1))  # [B, nW, N, heads, d]
    logits = widen(bias)
    if shifted:
        logits = logits + plan.mask(values).to(logits.dtype)[:, None]  # [nW, heads, N, N]
    weights = logits.softmax(dim=-1).to(v.dtype)
    if dropout > 0.0:  # every window of every image drops its own
        weights = F.dropout(weights.expand(*v.shape[:2], *weights.shape[-3:]), dropout)
        out = torch.einsum('bwhij,bwjhd->bwihd', weights, v)
    elif shifted:
        out = torch.einsum('whij,bwjhd->bwihd', weights, v)
    else:
        out = torch.einsum('hij,bwjhd->bwihd', weights, v)
    return join(out.flatten(-2), plan, shifted)
