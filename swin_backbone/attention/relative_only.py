"""Attention by relative position only: 'rel. pos. w/o app.' of the Swin paper, Table 4."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_backbone.attention import position_encoding
from swin_backbone.attention.kernels.eager import widen
from swin_backbone.attention.window import AttentionOptions
from swin_backbone.attention.window_plan import WindowPlan, pad_to_windows, window_partition, window_reverse
from swin_backbone.attention.wrapped_layers import is_plain


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
        shifted: whether the windows are shifted by ``plan.shift`` and masked.
        num_heads: attention heads.
        pad_value: value of a padded token ``[C]``; zeros if None.
        dropout: probability of dropping an attention weight; 0 outside training.

    Returns:
        The attended values of the real tokens ``[B, H, W, C]``.
    """
    shifted = shifted and plan.shift != (0, 0)
    windows = window_partition(values, plan, shifted, pad_value)  # [B, nW, N, C]
    v = windows.unflatten(-1, (num_heads, -1))  # [B, nW, N, heads, d]
    logits = widen(bias)
    if shifted:
        logits = logits + plan.mask(values).to(logits.dtype)[:, None]  # [nW, heads, N, N]
    weights = logits.softmax(dim=-1).to(v.dtype)
    if dropout > 0.0:  # dropout is independent in every window of every image
        weights = F.dropout(weights.expand(*v.shape[:2], *weights.shape[-3:]), dropout)
        out = torch.einsum('bwhij,bwjhd->bwihd', weights, v)
    elif shifted:
        out = torch.einsum('whij,bwjhd->bwihd', weights, v)
    else:
        out = torch.einsum('hij,bwjhd->bwihd', weights, v)
    return window_reverse(out.flatten(-2), plan, shifted)


class RelativeOnlyAttention(nn.Module):
    """V1's attention without queries and keys: weights are the softmax of the position bias.

    The projection has ``C`` outputs, the values of the ``3C`` of full attention. It keeps the name ``qkv``, so that
    checkpoints of full attention can be loaded.
    """

    def __init__(self, options: AttentionOptions) -> None:
        super().__init__()
        self.window = options.window
        self.num_heads = options.num_heads
        self.attn_drop = options.attn_drop
        self.pad_shift = options.pad_shift
        self.build(options)
        self.proj = nn.Linear(options.dim, options.dim)
        self.proj_drop = nn.Dropout(options.proj_drop)
        self.build_position(options)

    def build(self, options: AttentionOptions) -> None:
        """Create the projection of values."""
        self.qkv = nn.Linear(options.dim, options.dim, bias=options.qkv_bias)

    def build_position(self, options: AttentionOptions) -> None:
        """Create the table of position biases."""
        self.relative_position_bias_table = position_encoding.relative_table(options.window, options.num_heads)

    def project(self, x: Tensor) -> Tensor:
        """Return the values ``[..., C]`` of tokens."""
        return self.qkv(x)

    def pad_value(self) -> Tensor | None:
        """Return the value of a padded token ``[C]``; None for zeros."""
        return self.qkv.bias

    def position_table(self, window: tuple[int, int]) -> Tensor:
        """Return the logit of every offset between tokens of a window, ``[(2Mh-1)(2Mw-1), heads]``."""
        return position_encoding.clip_table(self.relative_position_bias_table, self.window, window)

    def forward(self, x: Tensor, plan: WindowPlan, shifted: bool) -> Tensor:
        """Average within the windows of ``x`` ``[B, H, W, C]``; same shape out."""
        if is_plain(self.qkv):
            return self.average(x, plan, shifted, self.pad_value())
        # A wrapped or hooked projection may treat zeros in any way, so it has to see the padding.
        padded = plan.padded()
        return self.average(pad_to_windows(x, plan, None), padded, shifted, None)[:, : plan.height, : plan.width]

    def average(self, x: Tensor, plan: WindowPlan, shifted: bool, pad_value: Tensor | None) -> Tensor:
        """Average within windows, with ``pad_value`` ``[C]`` as the value of padded tokens."""
        if self.pad_shift:
            plan = plan.with_pad_shift(shifted)
        dropout = self.attn_drop if self.training else 0.0
        values, bias = self.project(x), position_encoding.gather_bias(self.position_table(plan.window), plan.window)
        out = relative_only_attention(values, bias, plan, shifted, self.num_heads, pad_value, dropout)
        return self.proj_drop(self.proj(out))


class ContinuousRelativeOnlyAttention(RelativeOnlyAttention):
    """:class:`RelativeOnlyAttention` with V2's continuous position bias; it has no cosines and no logit scale."""

    def build(self, options: AttentionOptions) -> None:
        """Create the network of position biases and the projection of values with its bias."""
        self.pretrained_window = options.pretrained_window
        self.cpb_mlp = position_encoding.ContinuousBias(options.num_heads)
        self.qkv = nn.Linear(options.dim, options.dim, bias=False)
        self.v_bias = nn.Parameter(torch.zeros(options.dim)) if options.qkv_bias else None

    def build_position(self, options: AttentionOptions) -> None:
        """Do nothing: :meth:`build` creates the network."""

    def project(self, x: Tensor) -> Tensor:
        """Return the values ``[..., C]`` of tokens."""
        if is_plain(self.qkv):
            return F.linear(x, self.qkv.weight, self.v_bias)
        values = self.qkv(x)
        return values if self.v_bias is None else values + self.v_bias

    def pad_value(self) -> Tensor | None:
        """Return the value of a padded token ``[C]``; None for zeros."""
        return self.v_bias

    def position_table(self, window: tuple[int, int]) -> Tensor:
        """Return the logit of every offset between tokens of a window, ``[(2Mh-1)(2Mw-1), heads]``."""
        return self.cpb_mlp.table(window, self.pretrained_window)
