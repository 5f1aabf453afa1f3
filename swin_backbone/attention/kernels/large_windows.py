"""Window attention with large windows on processors, one head of one window at a time.

For 24 heads and windows of 48 x 48 tokens, a block's bias spread over all pairs of tokens, and its weights in each
window, are half a gigabyte each. Here the bias is spread for one head, and weights exist for some queries of it, few
enough for caches; the backward pass computes them again. Queries of padding are left out: nobody reads their results.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from swin_backbone.attention.kernels.eager import widen
from swin_backbone.attention.kernels.window_order import attend, window_order
from swin_backbone.attention.position_encoding import backward_bias
from swin_backbone.attention.window_plan import CONSTANTS, WindowPlan, region_mask, window_partition, window_reverse
from swin_backbone.attention.wrapped_layers import is_ordinary

SMALLEST = 576
"""Tokens of a window from which on this is faster than all heads and windows at once."""

MAX_PAIRS = 2**20
"""Pairs of a query and a key whose weights exist at a time in the backward pass."""

Queries = slice | Tensor


def can_run_by_heads(x: Tensor, plan: WindowPlan) -> bool:
    """Whether attention within the windows of ``x`` is computed here: large windows, an ordinary tensor on a CPU.

    A shift by padding is not: its frame needs another mask.
    """
    return plan.tokens >= SMALLEST and type(plan) is WindowPlan and is_ordinary(x)


def window_attention_by_heads(
    qkv: Tensor,
    table: Tensor | None,
    plan: WindowPlan,
    shifted: bool,
    num_heads: int,
    scale: float | Tensor,
    pad_value: Tensor | None,
) -> Tensor:
    """Window attention without dropout; see :func:`swin_backbone.attention.kernels.window_attention`.

    Args:
        qkv: as there.
        table: position bias of every offset ``[(2Mh-1)(2Mw-1), heads]``, or None.
        plan: as there.
        shifted: as there.
        num_heads: as there.
        scale: as there.
        pad_value: as there.
    """
    shifted = shifted and plan.shift != (0, 0)
    windows = window_partition(qkv, plan, shifted, pad_value)  # [B, nW, N, 3C]
    q, k, v = windows.flatten(0, 1).unflatten(-1, (3, num_heads, -1)).permute(2, 0, 3, 1, 4)  # [B * nW, heads, N, d]
    out = AttendByHeads.apply((q * scale).to(k.dtype).flip(2), k, v, table, plan, shifted).flip(2)
    return window_reverse(out.transpose(1, 2).flatten(2).unflatten(0, (qkv.shape[0], plan.num_windows)), plan, shifted)


def real_queries(plan: WindowPlan, shifted: bool, most: int) -> list[list[Queries]]:
    """Places of the real tokens of every window of an image, counted backwards, at most ``most`` at a time."""
    real = window_order(plan, shifted, 1).view(plan.num_windows, plan.tokens).flip(1) >= 0
    whole: list[Queries] = [slice(start, start + most) for start in range(0, plan.tokens, most)]
    return [whole if bool(row.all()) else list(row.nonzero()[:, 0].split(most)) for row in real]


def backward_mask(plan: WindowPlan) -> Tensor:
    """Additive mask of a shifted block ``[nW, N, N]`` with the queries backwards."""
    return region_mask(plan).flip(1)


def window_masks(plan: WindowPlan, shifted: bool, like: Tensor) -> list[Tensor | None]:
    """The mask of every window of an image ``[N, N]``, queries backwards; None where it hides nothing."""
    if not shifted:
        return [None] * plan.num_windows
    small = plan.with_one_window_per_mask()
    masks = dict(zip(small.mask_numbers().tolist(), CONSTANTS.get(like, backward_mask, small), strict=True))
    return [masks[number] if number else None for number in plan.mask_numbers().tolist()]


class LogitBias:
    """What is added to the logits of one head after the other; in memory that stays, as fresh memory costs time.

    Args:
        table: position bias of every offset ``[(2Mh-1)(2Mw-1), heads]``, or None.
        plan: the windows.
        shifted: whether they are shifted.
        like: has the dtype of the logits.
    """

    def __init__(self, table: Tensor | None, plan: WindowPlan, shifted: bool, like: Tensor) -> None:
        self.table, self.plan = table, plan
        self.masks = window_masks(plan, shifted, like)
        self.bias = (like.new_zeros if table is None else like.new_empty)(plan.tokens, plan.tokens)
        self.sum = torch.empty_like(self.bias)
        real = window_order(plan, shifted, 1).view(-1, *plan.window).flip(1) >= 0
        used = real.any(2).any(0).nonzero()[:, 0].tolist()  # rows of a window with a real query
        self.rows = slice(used[0], used[-1] + 1)

    def use_head(self, head: int) -> None:
        """Spread the bias of a head."""
        if self.table is not None:
            window = self.plan.window
            pairs = backward_bias(self.table[:, head : head + 1], window)[0]
            self.bias.view(*window, *window)[self.rows].copy_(pairs[self.rows])

    def of(self, window: int, queries: Queries) -> Tensor:
        """Bias and mask of some queries of a window ``[queries, N]``."""
        mask = self.masks[window % self.plan.num_windows]
        if mask is None:
            return self.bias[queries]
        bias = self.bias[queries]
        return torch.add(bias, mask[queries].to(bias.dtype), out=self.sum[: len(bias)])


class AttendByHeads(torch.autograd.Function):
    """Attention within windows, with a backward pass that keeps the inputs alone.

    Queries and attended values are backwards in their windows: so is the bias that a copy alone spreads.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, table: Tensor | None, plan: WindowPlan, shifted: bool
    ) -> Tensor:
        """Attended values ``[n, heads, N, d]`` of scaled queries, keys and values of that shape; zeros for padding."""
        ctx.save_for_backward(q, k, v, table)
        ctx.where = plan, shifted
        queries, added = real_queries(plan, shifted, plan.tokens), LogitBias(table, plan, shifted, q)
        out = torch.zeros(q.shape, dtype=q.dtype)
        for head in range(q.shape[1]):
            added.use_head(head)
            for number in range(len(q)):
                keys, values = k[None, None, number, head], v[None, None, number, head]
                for places in queries[number % plan.num_windows]:
                    part, mask = q[number, head, places][None, None], added.of(number, places)[None, None]
                    out[number, head, places] = F.scaled_dot_product_attention(part, keys, values, mask, scale=1.0)[
                        0, 0
                    ]
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Gradients of queries, keys, values and table, computed in at least float32."""
        q, k, v, table = ctx.saved_tensors
        plan, shifted = ctx.where
        if torch.is_grad_enabled():  # a gradient of the gradient is asked for
            return differentiable_gradients(grads[0], q, k, v, table, plan, shifted)
        d_q, d_k, d_v = (torch.zeros(x.shape, dtype=widen(x[:0]).dtype) for x in (q, k, v))
        d_table = None if table is None else torch.empty_like(table)
        queries = real_queries(plan, shifted, max(1, MAX_PAIRS // plan.tokens))
        added = LogitBias(table, plan, shifted, d_q)
        d_bias = torch.empty_like(added.bias)
        for head in range(q.shape[1]):
            added.use_head(head)
            d_bias.zero_()
            for number in range(len(q)):
                here, keys, values = (widen(x[number, head]) for x in (q, k, v))
                for places in queries[number % plan.num_windows]:
                    d_out = widen(grads[0][number, head, places])
                    weights = torch.addmm(added.of(number, places), here[places], keys.t()).softmax(-1)
                    d_v[number, head].addmm_(weights.t(), d_out)
                    d_logits = torch._softmax_backward_data(d_out @ values.t(), weights, -1, weights.dtype)
                    d_bias[places] += d_logits
                    d_q[number, head, places] = d_logits @ keys
                    d_k[number, head].addmm_(d_logits.t(), here[places])
            if table is not None and d_table is not None:
                d_table[:, head] = column_gradient(table, head, plan, d_bias)
        return d_q.to(q.dtype), d_k.to(k.dtype), d_v.to(v.dtype), d_table, None, None


def column_gradient(table: Tensor, head: int, plan: WindowPlan, d_bias: Tensor) -> Tensor:
    """The gradient of a head's column of ``table`` from that of its bias ``[N, N]``."""
    with torch.enable_grad():
        column = widen(table[:, head : head + 1].detach()).requires_grad_()
        bias = backward_bias(column, plan.window)
    return torch.autograd.grad(bias, column, d_bias.view_as(bias))[0][:, 0]


def differentiable_gradients(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, table: Tensor | None, plan: WindowPlan, shifted: bool
) -> tuple[Tensor | None, ...]:
    """The gradients of :class:`AttendByHeads` as part of a graph."""
    bias = None if table is None else backward_bias(table, plan.window).reshape(-1, plan.tokens, plan.tokens)
    out, _ = attend(torch.stack([q, k, v]), bias, plan.mask(q).flip(1) if shifted else None, 1.0)
    needed = [value for value in (q, k, v, table) if value is not None and value.requires_grad]
    found = dict(zip(map(id, needed), torch.autograd.grad(out, needed, grad, create_graph=True), strict=True))
    return *(found.get(id(value)) for value in (q, k, v, table)), None, None
