"""Window attention for a few windows at a time, recomputed in the backward pass (Swin V2 paper, section 3.4).

The attention weights of all windows of a large map need more memory than the rest of a block. Here only those of a few
windows exist at a time, in both passes, at the cost of computing attention twice.
"""

from collections.abc import Iterator

import torch
import torch.utils.checkpoint
from torch import Tensor

from swin_backbone.attention.kernels import window_attention
from swin_backbone.attention.kernels.eager import widen
from swin_backbone.attention.window_plan import WindowPlan, window_partition, window_reverse

MAX_PAIRS = 2**24
"""Largest number of attention weights, over all heads, that exist at a time."""


@torch._disable_dynamo  # torch.compiler.disable would import the compiler with this module, which takes seconds
def window_attention_in_parts(
    qkv: Tensor,
    bias: Tensor | None,
    plan: WindowPlan,
    shifted: bool,
    num_heads: int,
    scale: float | Tensor,
    pad_value: Tensor | None,
    dropout: float,
    backend: str,
    cosine: bool = False,
) -> Tensor:
    """Compute :func:`swin_backbone.attention.kernels.window_attention`, which documents the arguments, in parts.

    Each part is a batch of maps of one window, which every backend supports. ``torch.compile`` does not trace it.
    """
    shifted = shifted and plan.shift != (0, 0)
    single = WindowPlan(*plan.window, plan.window)
    at_a_time = max(1, MAX_PAIRS // (num_heads * plan.tokens**2))

    def compute(part: Tensor, bias: Tensor | None, mask: Tensor | None) -> Tensor:
        if mask is not None:
            mask = mask.expand(num_heads, -1, -1)
            bias = mask if bias is None else mask + widen(bias)
        return window_attention(part, bias, single, False, num_heads, scale, None, dropout, backend, cosine)

    windows = window_partition(qkv, plan, shifted, pad_value).unflatten(2, plan.window)  # [B, nW, Mh, Mw, 3C]
    numbers, outs = [], []
    for chosen, mask in windows_by_mask(plan, shifted, qkv):
        parts = windows[:, chosen].flatten(0, 1).split(at_a_time)
        if torch.is_grad_enabled():
            done = [torch.utils.checkpoint.checkpoint(compute, x, bias, mask, use_reentrant=False) for x in parts]
        else:
            done = [compute(x, bias, mask) for x in parts]
        outs.append(torch.cat(done).unflatten(0, (len(qkv), len(chosen))))
        numbers.append(chosen)
    out = torch.cat(outs, 1)[:, torch.cat(numbers).argsort()]
    return window_reverse(out.flatten(2, 3), plan, shifted)


def windows_by_mask(plan: WindowPlan, shifted: bool, like: Tensor) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield the indices of windows that share a mask, and the mask ``[N, N]``, or None without a shift."""
    if not shifted:
        yield torch.arange(plan.num_windows), None
        return
    small = plan.with_one_window_per_mask()
    masks = dict(zip(small.mask_numbers().tolist(), small.mask(like), strict=True))
    numbers = plan.mask_numbers()
    for number in numbers.unique().tolist():
        yield (numbers == number).nonzero()[:, 0], masks[number]
