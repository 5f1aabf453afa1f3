"""Window attention on tokens in window order, for training on CPUs.

Padding, shifting and partitioning a map of queries, keys and values, ``3C`` wide, and the inverses take much of the
time of a training step. Here the tokens, ``C`` wide, are gathered in window order by one index, with zero tokens for
padding, which are projected like all others; the results are gathered back by the inverse index. Attention is matrix
products with a handwritten backward pass: PyTorch's fused attention for CPUs has no gradient of the bias, and uses a
slow path if one is required.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from swin_backbone.attention.kernels.eager import widen
from swin_backbone.attention.window_plan import CONSTANTS, WindowPlan, window_partition
from swin_backbone.attention.wrapped_layers import is_ordinary


def can_train_in_windows(x: Tensor) -> bool:
    """Return whether this kernel is used: for an ordinary tensor on a CPU, with gradients.

    It does not support float16, in which the gradient of V2's normalization is infinite for the zero keys of padding.
    """
    dtype = torch.get_autocast_dtype('cpu') if torch.is_autocast_enabled('cpu') else x.dtype
    return torch.is_grad_enabled() and dtype != torch.float16 and is_ordinary(x)


def window_order(plan: WindowPlan, shifted: bool, batch: int) -> Tensor:
    """Return indices into the flattened batch ``[B * H * W]`` in window order, ``[B * nW * N]``; -1 for padding."""
    numbers = torch.arange(1, batch * plan.height * plan.width + 1).view(batch, plan.height, plan.width, 1)
    return window_partition(numbers, plan, shifted).flatten() - 1


def gather_order(plan: WindowPlan, shifted: bool, batch: int) -> Tensor:
    """Return :func:`window_order` with index 0 instead of -1 for padding."""
    return window_order(plan, shifted, batch).clamp(min=0)


def padding_places(plan: WindowPlan, shifted: bool, batch: int) -> Tensor:
    """Return the positions of padding in :func:`window_order`."""
    return (window_order(plan, shifted, batch) < 0).nonzero()[:, 0]


def token_places(plan: WindowPlan, shifted: bool, batch: int) -> Tensor:
    """Return the position of every token of the flattened batch, ``[B * H * W]``, the inverse of window order."""
    order = window_order(plan, shifted, batch)
    places = torch.empty(batch * plan.height * plan.width, dtype=torch.long)
    real = (order >= 0).nonzero()[:, 0]
    places[order[real]] = real
    return places


class Permute(torch.autograd.Function):
    """Gather rows of ``x`` at ``index``, with zeros at ``zero``; the backward pass uses ``back`` and ``back_zero``.

    Every row is gathered at most once, so the backward pass is also a gather, not a scatter-add.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, zero: Tensor, back: Tensor, back_zero: Tensor) -> Tensor:
        """Permute the rows of ``x`` ``[rows, C]``."""
        ctx.save_for_backward(index, zero, back, back_zero)
        out = x.index_select(0, index)
        return out.index_fill_(0, zero, 0.0) if zero.numel() else out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Permute the gradient back with this same function, which is differentiable."""
        index, zero, back, back_zero = ctx.saved_tensors
        return Permute.apply(grads[0], back, back_zero, index, zero), None, None, None, None


def attend(x: Tensor, bias: Tensor | None, mask: Tensor | None, scale: float | Tensor) -> tuple[Tensor, Tensor]:
    """Compute values ``[n, heads, N, d]`` and weights of ``x`` ``[3, n, heads, N, d]``; softmax in float32 or wider."""
    q, k, v = x
    logits = widen((q * scale).to(k.dtype) @ k.transpose(-2, -1))
    if bias is not None:
        logits = logits + widen(bias)
    if mask is not None:
        windows = logits.view(-1, mask.shape[0], *logits.shape[1:])
        logits = (windows + mask.to(logits.dtype)[:, None]).view_as(logits)
    weights = logits.softmax(-1).to(v.dtype)
    return weights @ v, weights


class Attend(torch.autograd.Function):
    """:func:`attend` with a backward pass that saves only the inputs and the weights, and works in place."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, mask: Tensor | None, scale: float | Tensor) -> Tensor:
        """Compute the values ``[n, heads, N, d]`` of :func:`attend`."""
        _, k, v = x.flatten(1, 2)
        scaled = (x[0] * scale).to(x.dtype).flatten(0, 1)
        logits = widen(torch.bmm(scaled, k.transpose(1, 2)).view(*x.shape[1:4], x.shape[3]))
        windows = logits.view(-1, 1 if mask is None else mask.shape[0], *logits.shape[1:])
        if mask is not None or bias is not None:
            added = 0.0 if mask is None else mask.to(logits.dtype)[:, None]
            windows.add_(added if bias is None else added + widen(bias))
        weights = torch.softmax(logits, -1).to(x.dtype)
        tensor = scale if isinstance(scale, Tensor) else None
        ctx.save_for_backward(x, weights, bias, mask, tensor)
        ctx.scale = None if tensor is not None else scale
        return torch.bmm(weights.flatten(0, 1), v).view(x.shape[1:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Compute the gradients of ``x``, ``bias`` and a tensor ``scale``."""
        x, weights, bias, mask, tensor = ctx.saved_tensors
        scale = ctx.scale if tensor is None else tensor
        if torch.is_grad_enabled():  # create_graph=True
            return differentiable_gradients(grads[0], x, bias, mask, scale)
        _, k, v = x.flatten(1, 2)
        scaled = (x[0] * scale).to(x.dtype).flatten(0, 1)
        grad, weights = grads[0].reshape(v.shape), weights.flatten(0, 1)
        d_x = torch.empty_like(x)
        d_q, d_k, d_v = d_x.flatten(1, 2)
        torch.bmm(weights.transpose(1, 2), grad, out=d_v)
        d_weights, weights = widen(torch.bmm(grad, v.transpose(1, 2))), widen(weights)
        d_logits = torch._softmax_backward_data(d_weights, weights, -1, weights.dtype).view(*x.shape[1:4], x.shape[3])
        d_bias = None if bias is None else d_logits.sum(0).to(bias.dtype)
        d_logits = d_logits.to(x.dtype).flatten(0, 1)
        torch.bmm(d_logits.transpose(1, 2), scaled, out=d_k)
        torch.bmm(d_logits, k, out=d_q)
        d_scale = None
        if tensor is not None:
            d_scale = (widen(d_x[0]) * widen(x[0])).sum((0, 2, 3)).view_as(tensor).to(tensor.dtype)
        d_x[0] *= scale
        return d_x, d_bias, None, d_scale


def differentiable_gradients(
    grad: Tensor, x: Tensor, bias: Tensor | None, mask: Tensor | None, scale: float | Tensor
) -> tuple[Tensor | None, ...]:
    """Compute the gradients of :class:`Attend` with a graph, for second derivatives."""
    out, _ = attend(x, bias, mask, scale)
    needed = [value for value in (x, bias, scale) if isinstance(value, Tensor) and value.requires_grad]
    found = dict(zip(map(id, needed), torch.autograd.grad(out, needed, grad, create_graph=True), strict=True))
    return found.get(id(x)), found.get(id(bias)), None, found.get(id(scale))


def attend_in_windows(
    x: Tensor,
    project: Callable[[Tensor], Tensor],
    finish: Callable[[Tensor], Tensor],
    bias: Tensor | None,
    plan: WindowPlan,
    shifted: bool,
    num_heads: int,
    scale: float | Tensor,
) -> Tensor:
    """Compute ``finish(window_attention(project(x), ...))`` without dropout.

    Args:
        x: real tokens ``[B, H, W, C]``.
        project: maps tokens ``[n, C]`` to their queries, keys and values ``[n, 3C]``; called once.
        finish: maps attended values ``[n, C]`` to results ``[n, C]``; called once.
        bias: see :func:`swin_backbone.attention.kernels.window_attention`, as for the following ones.
        plan: see above.
        shifted: see above.
        num_heads: see above.
        scale: see above.
    """
    shifted = shifted and plan.shift != (0, 0)
    where = (plan, shifted, x.shape[0])
    order, places = CONSTANTS.get(x, gather_order, *where), CONSTANTS.get(x, token_places, *where)
    padding, none = CONSTANTS.get(x, padding_places, *where), order[:0]
    qkv = project(Permute.apply(x.flatten(0, 2), order, padding, places, none))
    qkv = qkv.view(-1, plan.tokens, 3, num_heads, qkv.shape[1] // (3 * num_heads)).permute(2, 0, 3, 1, 4)
    mask = plan.mask(x) if shifted else None
    values = Attend.apply(qkv.contiguous(), bias, mask, scale).transpose(1, 2).flatten(2).flatten(0, 1)
    out: Tensor = Permute.apply(finish(values), places, none, order, padding)
    return out.view(*x.shape[:3], out.shape[1])
