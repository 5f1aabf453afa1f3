"""Attention by position alone: the paper's 'rel. pos. w/o app.' (Swin paper, Table 4)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_backbone.attention import position
from swin_backbone.attention.kernels.eager import widen
from swin_backbone.attention.plan import WindowPlan, displaced, join, split


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


class RelativeOnlyAttention(nn.Module):
    """V1 without queries and keys: each window averages its values with the softmax of the position bias.

    The projection has ``C`` outputs, the value rows of the full one's ``3C``, and keeps its name ``qkv``, so that files
    of full attention can be read.

    Args:
        dim: channels.
        window: rows and columns of a window.
        num_heads: attention heads; ``dim`` is divisible by it.
        qkv_bias: whether values have a bias.
        attn_drop: probability of dropping an attention weight.
        proj_drop: probability of dropping an output feature.
        displaced: whether a shift displaces the grid over a padded map, instead of rolling the map.
    """

    def __init__(
        self,
        dim: int,
        window: tuple[int, int],
        num_heads: int,
        qkv_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        displaced: bool = False,
    ) -> None:
        super().__init__()
        self.window = window
        self.num_heads = num_heads
        self.attn_drop = attn_drop
        self.displaced = displaced
        self.qkv = nn.Linear(dim, dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        self.relative_position_bias_table = position.relative_table(window, num_heads)

    def position_bias(self) -> Tensor:
        """The logits of every window, ``[heads, N, N]``."""
        return position.gather_bias(self.relative_position_bias_table, self.window)

    def forward(self, x: Tensor, plan: WindowPlan, shifted: bool) -> Tensor:
        """Attend within the windows of ``x`` ``[B, H, W, C]``; same shape out."""
        return average(self, self.qkv(x), plan, shifted, pad_value=self.qkv.bias)


class ContinuousRelativeOnlyAttention(nn.Module):
    """The same for V2, whose position bias is a network's. Cosines and their scale do not exist here.

    The arguments are those of :class:`RelativeOnlyAttention`, and:

    Args:
        pretrained_window: the window that the weights were trained with; zeros if it is this one.
    """

    def __init__(
        self,
        dim: int,
        window: tuple[int, int],
        num_heads: int,
        qkv_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        displaced: bool = False,
        pretrained_window: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__()
        self.window = window
        self.pretrained_window = pretrained_window
        self.num_heads = num_heads
        self.attn_drop = attn_drop
        self.displaced = displaced
        self.cpb_mlp = position.ContinuousBias(num_heads)
        self.qkv = nn.Linear(dim, dim, bias=False)
        self.v_bias = nn.Parameter(torch.zeros(dim)) if qkv_bias else None
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)

    def position_bias(self) -> Tensor:
        """The logits of every window, ``[heads, N, N]``."""
        return self.cpb_mlp.spread(self.window, self.pretrained_window)

    def forward(self, x: Tensor, plan: WindowPlan, shifted: bool) -> Tensor:
        """Attend within the windows of ``x`` ``[B, H, W, C]``; same shape out."""
        return average(self, F.linear(x, self.qkv.weight, self.v_bias), plan, shifted, pad_value=self.v_bias)


def average(
    module: RelativeOnlyAttention | ContinuousRelativeOnlyAttention,
    values: Tensor,
    plan: WindowPlan,
    shifted: bool,
    pad_value: Tensor | None,
) -> Tensor:
    """Average ``values`` ``[B, H, W, C]`` within windows as the positions of ``module`` say, and project the result."""
    if module.displaced:
        plan = displaced(plan, shifted)
    dropout = module.attn_drop if module.training else 0.0
    out = relative_only_attention(values, module.position_bias(), plan, shifted, module.num_heads, pad_value, dropout)
    return module.proj_drop(module.proj(out))
