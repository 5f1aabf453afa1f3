"""Window attention for a group of windows at a time, including the projections, for inference on CPUs.

On a CPU the queries, keys and values of a map do not fit into the caches, and allocating memory of that size takes
about as much time as the arithmetic. Here a group of windows is gathered, projected, attended, projected back and
written to the output before the next group, so that intermediates are small and stay in the caches. Training needs the
intermediates for gradients, so this is for inference only.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_backbone.attention.kernels.eager import widen
from swin_backbone.attention.window_plan import CONSTANTS, WindowPlan, window_tokens
from swin_backbone.attention.wrapped_layers import can_split_calls, is_ordinary

ROWS_PER_THREAD = 1024
"""Tokens of a group per thread: enough for fast matrix products, few enough for the cache of a core."""

SMALLEST = 512
"""Number of tokens up to which the whole map at once is faster: its intermediates fit into memory that the allocator
reuses, and gathering costs more than it saves. The measured limit is between 441 and 576 tokens for 96 channels."""


def can_run_in_groups(x: Tensor, *modules: nn.Module) -> bool:
    """Return whether applying ``modules`` to ``x`` ``[..., C]`` in groups is possible and faster.

    ``x`` has to be an ordinary tensor on a CPU, without gradients, of more than :data:`SMALLEST` tokens.
    """
    if torch.is_grad_enabled() or not is_ordinary(x):  # checked first, so that no traced graph depends on the size
        return False
    return x.numel() > SMALLEST * x.shape[-1] and can_split_calls(*modules)


def group_rows() -> int:
    """Return the number of rows to process at a time."""
    return ROWS_PER_THREAD * torch.get_num_threads()


def tokenwise(function: Callable[[Tensor], Tensor], x: Tensor, *modules: nn.Module) -> Tensor:
    """Return ``function(x)`` for a function that acts on each token of ``[..., C]``; in groups if that is faster.

    Args:
        function: keeps the shape and treats every token independently.
        x: the tokens.
        modules: the modules that ``function`` calls.
    """
    if not can_run_in_groups(x, *modules) or x.numel() <= group_rows() * x.shape[-1]:
        return function(x)
    return torch.cat([function(rows) for rows in x.flatten(0, -2).split(group_rows())]).view(x.shape)


@dataclass(frozen=True)
class Group:
    """Windows that share a mask.

    Attributes:
        tokens: indices into the flattened batch for every position of the windows, ``[n * N]``; -1 for padding.
        mask: bias and mask added to the logits, ``[1, heads or 1, N, N]``, or None.
    """

    tokens: Tensor
    mask: Tensor | None


def groups(plan: WindowPlan, shifted: bool, batch: int, bias: Tensor | None, like: Tensor) -> Iterator[Group]:
    """Yield groups of the windows of a batch of maps; ``like`` has the dtype of the masks."""
    tokens = CONSTANTS.get(like, window_tokens, plan, shifted, batch)
    step = max(1, group_rows() // plan.tokens)
    mask_numbers = plan.mask_numbers() if shifted else torch.zeros(plan.num_windows)
    numbers, counts = mask_numbers.unique(return_counts=True)
    masks = group_masks(bias, plan, shifted, like)
    for number, part in zip(numbers.tolist(), tokens.split((batch * counts).tolist()), strict=True):
        yield from (Group(windows.flatten(), masks[number]) for windows in part.split(step))


def group_masks(bias: Tensor | None, plan: WindowPlan, shifted: bool, like: Tensor) -> dict[int, Tensor | None]:
    """Return the sum of bias and shift mask by mask number, each ``[1, heads or 1, N, N]``; None without either."""
    if not shifted:
        return {0: None if bias is None else bias[None].to(like.dtype)}
    plan = plan.with_one_window_per_mask()
    masks = plan.mask(like)[:, None, None]
    if bias is not None:
        masks = masks + widen(bias)
    return dict(zip(plan.mask_numbers().tolist(), masks.to(like.dtype), strict=True))


def attend_in_groups(
    x: Tensor,
    project: Callable[[Tensor], Tensor],
    finish: Callable[[Tensor], Tensor],
    bias: Tensor | None,
    plan: WindowPlan,
    shifted: bool,
    num_heads: int,
    scale: float | Tensor,
    pad_value: Tensor | None,
) -> Tensor:
    """Compute ``finish(window_attention(project(x), ...))`` without gradients.

    Args:
        x: real tokens ``[B, H, W, C]``.
        project: maps tokens ``[n, C]`` to their queries, keys and values ``[n, 3C]``.
        finish: maps attended values ``[n, C]`` to results ``[n, C]``.
        bias: see :func:`swin_backbone.attention.kernels.window_attention`, as for the following ones.
        plan: see above.
        shifted: see above.
        num_heads: see above.
        scale: see above.
        pad_value: see above.
    """
    rows = x.flatten(0, 2)
    out = None
    for group in groups(plan, shifted and plan.shift != (0, 0), x.shape[0], bias, like=x):
        real = group.tokens >= 0
        padded = plan.cut_size != (plan.height, plan.width) and not bool(real.all())
        tokens = group.tokens[real] if padded else group.tokens
        qkv = project(rows.index_select(0, tokens))
        if padded:
            qkv = insert_padding(qkv, real, pad_value)
        values = attend(qkv, plan.tokens, num_heads, scale, group.mask)
        values = finish(values[real] if padded else values)
        out = values.new_empty(rows.shape[0], values.shape[1]) if out is None else out
        out.index_copy_(0, tokens, values)
    assert out is not None  # every map has at least one window
    return out.view(*x.shape[:-1], out.shape[1])


def insert_padding(qkv: Tensor, real: Tensor, pad_value: Tensor | None) -> Tensor:
    """Put rows ``[n, 3C]`` where ``real`` ``[m]`` is true, and ``pad_value`` elsewhere: ``[m, 3C]``."""
    full = qkv.new_zeros(real.shape[0], qkv.shape[1])
    if pad_value is not None:
        full[~real] = pad_value.to(qkv.dtype)
    full[real] = qkv
    return full


def attend(qkv: Tensor, tokens: int, num_heads: int, scale: float | Tensor, mask: Tensor | None) -> Tensor:
    """Attend within windows of ``tokens`` rows of ``qkv`` ``[n * N, 3C]``; ``[n * N, C]`` out."""
    # The fused kernel for CPUs supports any strides, so views suffice, and requires a mask of four axes.
    q, k, v = qkv.view(-1, tokens, 3, num_heads, qkv.shape[1] // (3 * num_heads)).permute(2, 0, 3, 1, 4)
    if isinstance(scale, Tensor):
        q, scale = (q * scale).to(k.dtype), 1.0
    mask = None if mask is None else mask.to(q.dtype)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    return out.transpose(1, 2).reshape(qkv.shape[0], qkv.shape[1] // 3)
