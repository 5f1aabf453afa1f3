"""Window attention through PyTorch's fused ``scaled_dot_product_attention``."""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from swin_backbone.attention.kernels.arguments import Arguments
from swin_backbone.attention.kernels.eager import unit, widen
from swin_backbone.attention.window_plan import from_window_grid, to_window_grid

if TYPE_CHECKING:
    from swin_backbone.attention.window_plan import AnyPlan

MAX_ROWS = {'cuda': 65_535}
"""Largest first dimension by device: some fused kernels use it as an axis of the CUDA grid."""


def window_attention_sdpa(given: Arguments, dropout: float) -> Tensor:
    """Compute :func:`swin_backbone.attention.kernels.window_attention` with PyTorch's fused kernels.

    The fused kernels accept four axes and a mask that is broadcast. A shifted block has one mask per window and head,
    equal for all images, so the axes are (windows x heads, images, N, d). An unshifted block has only the bias, equal
    for all windows, so the axes are (images x windows, heads, N, d).
    """
    plan, shifted, num_heads, dim, scale = given.plan, given.shifted, given.num_heads, given.dim, given.scale
    batch, (rows, cols), (win_h, win_w) = given.qkv.shape[0], plan.window_grid, plan.window

    x = to_window_grid(given.qkv, plan, shifted, given.pad_value)
    x = x.reshape(batch, rows, win_h, cols, win_w, 3, num_heads, dim)
    if shifted:
        x = x.permute(5, 1, 3, 6, 0, 2, 4, 7).reshape(3, plan.num_windows * num_heads, batch, plan.tokens, dim)
    else:
        x = x.permute(5, 0, 1, 3, 6, 2, 4, 7).reshape(3, batch * plan.num_windows, num_heads, plan.tokens, dim)
    q, k, v = x
    if given.cosine:
        q, k = unit(q), unit(k)

    logit_mask = additive_mask(given.bias, plan, shifted, like=q)
    if isinstance(scale, Tensor):
        per_head = scale.repeat(plan.num_windows, 1, 1)[:, None] if shifted else scale
        q, scale = (q * per_head).to(k.dtype), 1.0
    out = attend(q, k, v, logit_mask, dropout, scale)

    if shifted:
        out = out.reshape(rows, cols, num_heads, batch, win_h, win_w, dim).permute(3, 0, 4, 1, 5, 2, 6)
    else:
        out = out.reshape(batch, rows, cols, num_heads, win_h, win_w, dim).permute(0, 1, 4, 2, 5, 3, 6)
    return from_window_grid(out.reshape(batch, rows, win_h, cols, win_w, given.channels), plan, shifted)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float, scale: float) -> Tensor:
    """Call the fused kernel on ``[rows, n, N, d]``, in parts if there are more rows than it supports."""
    most = MAX_ROWS.get(q.device.type)
    if most is None or torch.compiler.is_compiling() or q.shape[0] <= most:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, scale=scale)
    parts = [slice(start, start + most) for start in range(0, q.shape[0], most)]
    masks = [mask if mask is None or mask.shape[0] == 1 else mask[part] for part in parts]
    outs = [
        F.scaled_dot_product_attention(q[part], k[part], v[part], attn_mask=own, dropout_p=dropout, scale=scale)
        for part, own in zip(parts, masks, strict=True)
    ]
    return torch.cat(outs)


def additive_mask(bias: Tensor | None, plan: 'AnyPlan', shifted: bool, like: Tensor) -> Tensor | None:
    """Add bias and mask in the dtype of ``like``: ``[1, heads, N, N]``, or ``[nW * heads, 1, N, N]`` if shifted."""
    if not shifted:
        # The fused kernel for CPUs requires a mask of four axes.
        return None if bias is None else bias[None].to(like.dtype)
    heads = like.shape[0] // plan.num_windows
    mask = plan.mask(like)[:, None].expand(-1, heads, -1, -1)
    if bias is not None:
        mask = mask + widen(bias)
    return mask.to(like.dtype).reshape(-1, 1, plan.tokens, plan.tokens)
