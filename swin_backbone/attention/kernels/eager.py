"""Window attention step by step: the definition that every other backend is tested against."""

import torch
import torch.nn.functional as F
from torch import Tensor

from swin_backbone.attention.kernels.arguments import Arguments
from swin_backbone.attention.window_plan import window_partition, window_reverse


def widen(x: Tensor) -> Tensor:
    """Convert half precision to float32; return other dtypes unchanged."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def unit(x: Tensor) -> Tensor:
    """Normalize ``x`` ``[..., d]`` to unit length, in at least float32; zero vectors stay zero."""
    return F.normalize(widen(x), dim=-1).to(x.dtype)


def window_attention_eager(given: Arguments, dropout: float) -> Tensor:
    """Compute :func:`swin_backbone.attention.kernels.window_attention` step by step."""
    plan, shifted, channels = given.plan, given.shifted, given.channels
    windows = window_partition(given.qkv, plan, shifted, given.pad_value)  # [B, nW, N, 3C]
    windows = windows.reshape(*windows.shape[:3], 3, given.num_heads, given.dim)
    q, k, v = windows.permute(3, 0, 1, 4, 2, 5)  # each [B, nW, heads, N, d]
    if given.cosine:
        q, k = unit(q), unit(k)

    logits = widen((q * given.scale).to(k.dtype) @ k.transpose(-2, -1))
    if given.bias is not None:
        logits = logits + widen(given.bias)
    if shifted:
        logits = logits + plan.mask(given.qkv).to(logits.dtype)[:, None]
    weights = F.dropout(logits.softmax(dim=-1).to(v.dtype), dropout, training=dropout > 0)

    out = (weights @ v).transpose(2, 3)  # [B, nW, N, heads, d]
    return window_reverse(out.reshape(*out.shape[:3], channels), plan, shifted)
