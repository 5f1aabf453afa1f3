"""Window attention step by step: the definition that every other backend is tested against."""

import torch
import torch.nn.functional as F
from torch import Tensor

from swin_backbone.attention.plan import WindowPlan, window_partition, window_reverse


def widen(x: Tensor) -> Tensor:
    """``x`` in at least float32: half precision is raised, anything wider is left alone."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def window_attention_eager(
    qkv: Tensor,
    bias: Tensor | None,
    plan: WindowPlan,
    shifted: bool,
    num_heads: int,
    scale: float | Tensor,
    pad_value: Tensor | None,
    dropout: float,
) -> Tensor:
    """See :func:`swin_backbone.attention.kernels.window_attention` for meaning and shapes."""
    batch, channels = qkv.shape[0], qkv.shape[-1] // 3
    windows = window_partition(qkv, plan, shifted, pad_value)  # [B, nW, N, 3C]
    windows = windows.reshape(batch, plan.num_windows, plan.tokens, 3, num_heads, channels // num_heads)
    q, k, v = windows.permute(3, 0, 1, 4, 2, 5)  # each [B, nW, heads, N, d]

    logits = widen((q * scale).to(k.dtype) @ k.transpose(-2, -1))
    if bias is not None:
        logits = logits + widen(bias)
    if shifted:
        logits = logits + plan.mask(qkv).to(logits.dtype)[:, None]
    weights = F.dropout(logits.softmax(dim=-1).to(v.dtype), dropout, training=dropout > 0)

    out = (weights @ v).transpose(2, 3)  # [B, nW, N, heads, d]
    return window_reverse(out.reshape(batch, plan.num_windows, plan.tokens, channels), plan, shifted)
