"""Window attention with large windows on CPUs, one head of one window at a time.

For 24 heads and windows of 48 x 48 tokens, the bias for all pairs of tokens and the attention weights of each window
are half a gigabyte each. Here the bias is expanded for one head at a time, and weights exist for a few queries at a
time, which fit into the caches; the backward pass recomputes them. Queries of padding are skipped, as their results are
unused.
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
"""Smallest window, in tokens, for which this is faster than all heads and windows at once."""

MAX_PAIRS = 2**20
"""Largest number of attention weights that exist at a time in the backward pass."""

Queries = slice | Tensor


def can_run_by_heads(x: Tensor, plan: WindowPlan) -> bool:
    """Return whether this kernel is used: for large windows and an ordinary tensor on a CPU.

    It does not support a shift by padding, which needs a different mask.
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
    """Compute :func:`swin_backbone.attention.kernels.window_attention` without dropout.

    ``table`` has the position bias of every offset, ``[(2Mh-1)(2Mw-1), heads]``, or is None. The other arguments are
    documented there.
    """
    shifted = shifted and plan.shift != (0, 0)
    windows = window_partition(qkv, plan, shifted, pad_value)  # [B, nW, N, 3C]
    q, k, v = windows.flatten(0, 1).unflatten(-1, (3, num_heads, -1)).permute(2, 0, 3, 1, 4)  # [B * nW, heads, N, d]
    out = AttendByHeads.apply((q * scale).to(k.dtype).flip(2), k, v, table, plan, shifted).flip(2)
    return window_reverse(out.transpose(1, 2).flatten(2).unflatten(0, (qkv.shape[0], plan.num_windows)), plan, shifted)


def real_queries(plan: WindowPlan, shifted: bool, most: int) -> list[list[Queries]]:
    """Return the real tokens of every window of an image, in reversed positions, in parts of at most ``most``."""
    real = window_order(plan, shifted, 1).view(plan.num_windows, plan.tokens).flip(1) >= 0
    whole: list[Queries] = [slice(start, start + most) for start in range(0, plan.tokens, most)]
    return [whole if bool(row.all()) else list(row.nonzero()[:, 0].split(most)) for row in real]


def backward_mask(plan: WindowPlan) -> Tensor:
    """Build the additive mask of a shifted block ``[nW, N, N]`` with reversed queries."""
    return region_mask(plan).flip(1)


def window_masks(plan: WindowPlan, shifted: bool, like: Tensor) -> list[Tensor | None]:
    """Return the mask of every window of an image, ``[N, N]`` with reversed queries; None for windows of one region."""
    if not shifted:
        return [None] * plan.num_windows
    small = plan.with_one_window_per_mask()
    masks = dict(zip(small.mask_numbers().tolist(), CONSTANTS.get(like, backward_mask, small), strict=True))
    return [masks[number] if number else None for number in plan.mask_numbers().tolist()]


class LogitBias:
    """Bias and mask of one head at a time, in buffers that are reused because allocation is slow.

    Args:
        table: position bias of every offset ``[(2Mh-1)(2Mw-1), heads]``, or None.
        plan: the window plan.
        shifted: whether the windows are shifted.
        like: a tensor with the dtype of the logits.
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
        """Expand the bias of a head to all pairs of tokens."""
        if self.table is not None:
            window = self.plan.window
            pairs = backward_bias(self.table[:, head : head + 1], window)[0]
            self.bias.view(*window, *window)[self.rows].copy_(pairs[self.rows])

    def for_queries(self, window: int, queries: Queries) -> Tensor:
        """Return the sum of bias and mask for some queries of a window, ``[queries, N]``."""
        mask = self.masks[window % self.plan.num_windows]
        if mask is None:
            return self.bias[queries]
        bias = self.bias[queries]
        return torch.add(bias, mask[queries].to(bias.dtype), out=self.sum[: len(bias)])


class AttendByHeads(torch.autograd.Function):
    """Attention within windows, with a backward pass that saves only the inputs.

    Queries and attended values are in reverse order within their windows, the order of :func:`backward_bias`.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, table: Tensor | None, plan: WindowPlan, shifted: bool
    ) -> Tensor:
        """Attend with scaled queries, keys and values ``[n, heads, N, d]``; same shape out, zeros for padding."""
        ctx.save_for_backward(q, k, v, table)
        ctx.where = plan, shifted
        queries, added = real_queries(plan, shifted, plan.tokens), LogitBias(table, plan, shifted, q)
        out = torch.zeros(q.shape, dtype=q.dtype)
        for head in range(q.shape[1]):
            added.use_head(head)
            for number in range(len(q)):
                keys, values = k[None, None, number, head], v[None, None, number, head]
                for places in queries[number % plan.num_windows]:
                    part, mask = q[number, head, places][None, None], added.for_queries(number, places)[None, None]
                    out[number, head, places] = F.scaled_dot_product_attention(part, keys, values, mask, scale=1.0)[
                        0, 0
                    ]
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Compute the gradients of queries, keys, values and table, in at least float32."""
        q, k, v, table = ctx.saved_tensors
        plan, shifted = ctx.where
        if torch.is_grad_enabled():  # create_graph=True
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
                    weights = torch.addmm(added.for_queries(number, places), here[places], keys.t()).softmax(-1)
                    d_v[number, head].addmm_(weights.t(), d_out)
                    d_logits = torch._softmax_backward_data(d_out @ values.t(), weights, -1, weights.dtype)
                    d_bias[places] += d_logits
                    d_q[number, head, places] = d_logits @ keys
                    d_k[number, head].addmm_(d_logits.t(), here[places])
            if table is not None and d_table is not None:
                d_table[:, head] = column_gradient(table, head, plan, d_bias)
        return d_q.to(q.dtype), d_k.to(k.dtype), d_v.to(v.dtype), d_table, None, None


def column_gradient(table: Tensor, head: int, plan: WindowPlan, d_bias: Tensor) -> Tensor:
    """Compute the gradient of a head's column of ``table`` from that of its bias ``[N, N]``."""
    with torch.enable_grad():
        column = widen(table[:, head : head + 1].detach()).requires_grad_()
        bias = backward_bias(column, plan.window)
    return torch.autograd.grad(bias, column, d_bias.view_as(bias))[0][:, 0]


def differentiable_gradients(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, table: Tensor | None, plan: WindowPlan, shifted: bool
) -> tuple[Tensor | None, ...]:
    """Compute the gradients of :class:`AttendByHeads` with a graph, for second derivatives."""
    bias = None if table is None else backward_bias(table, plan.window).reshape(-1, plan.tokens, plan.tokens)
    out, _ = attend(torch.stack([q, k, v]), bias, plan.mask(q).flip(1) if shifted else None, 1.0)
    needed = [value for value in (q, k, v, table) if value is not None and value.requires_grad]
    found = dict(zip(map(id, needed), torch.autograd.grad(out, needed, grad, create_graph=True), strict=True))
    return *(found.get(id(value)) for value in (q, k, v, table)), None, None
