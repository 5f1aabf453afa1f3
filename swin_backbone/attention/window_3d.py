"""Attention within windows of time and space (Video Swin Transformer, section 3.2).

Windows, padding, shift and mask are those of images (:mod:`.window_plan`) with one more axis and one rule of the
original code: along an axis that is no longer than the window, the window is as long as the axis and is not shifted.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from swin_backbone.attention import position_encoding
from swin_backbone.attention.kernels import sdpa
from swin_backbone.attention.kernels.window_order import Attend, attend, can_train_in_windows
from swin_backbone.attention.window import AttentionOptions, WindowAttention
from swin_backbone.attention.window_plan import CONSTANTS, region_mask, window_partition, window_reverse

Sides = tuple[int, int, int]


@dataclass(frozen=True)
class VolumePlan:
    """How a map of clips is cut into windows: :class:`.window_plan.WindowPlan` for three axes.

    Attributes:
        size: frames, rows and columns of real tokens.
        largest: frames, rows and columns of a window that is not clipped to the map.
    """

    size: Sides
    largest: Sides

    @property
    def window(self) -> Sides:
        """Frames, rows and columns of a window."""
        frames, rows, cols = map(min, self.size, self.largest)
        return frames, rows, cols

    @property
    def shift(self) -> Sides:
        """Offset of a shifted block along every axis: half a window, and 0 along an axis of one window."""
        frames, rows, cols = (
            side // 2 if size > side else 0 for size, side in zip(self.size, self.largest, strict=True)
        )
        return frames, rows, cols

    @property
    def window_grid(self) -> Sides:
        """Windows along every axis."""
        frames, rows, cols = (-(-size // side) for size, side in zip(self.size, self.window, strict=True))
        return frames, rows, cols

    @property
    def padded_size(self) -> Sides:
        """Frames, rows and columns after padding at the ends to whole windows; padded tokens act as keys."""
        frames, rows, cols = (count * side for count, side in zip(self.window_grid, self.window, strict=True))
        return frames, rows, cols

    @property
    def cut_size(self) -> Sides:
        """Frames, rows and columns of the map that is cut into windows."""
        return self.padded_size

    @property
    def num_windows(self) -> int:
        """Windows per clip, ``nW``."""
        return math.prod(self.window_grid)

    @property
    def tokens(self) -> int:
        """Tokens per window, ``N``."""
        return math.prod(self.window)

    def padded(self) -> 'VolumePlan':
        """Return the plan of the padded map."""
        return VolumePlan(self.padded_size, self.window)

    def mask(self, like: Tensor) -> Tensor:
        """Return the additive mask of a shifted block, ``[nW, N, N]`` float32, on the device of ``like``."""
        return CONSTANTS.get(like, region_mask, self)

    def shift_map(self, x: Tensor) -> Tensor:
        """Shift a padded map ``[B, *padded_size, C]`` before it is cut into windows."""
        return x.roll([-step for step in self.shift], dims=(1, 2, 3))

    def unshift_map(self, x: Tensor) -> Tensor:
        """Invert :meth:`shift_map`."""
        return x.roll(self.shift, dims=(1, 2, 3))


class VolumeAttention(WindowAttention):
    """V1's attention within windows of three axes.

    Args:
        options: as in :class:`WindowAttention`; ``window`` is the rows and columns.
        frames: frames of a window.
        exact_offsets: whether clipped windows use the biases of their true offsets, see :meth:`bias_within`.
    """

    window: Any

    def __init__(self, options: AttentionOptions, frames: int, exact_offsets: bool) -> None:
        super().__init__(options)
        self.window = (frames, *options.window)
        self.exact_offsets = exact_offsets
        self.relative_position_bias_table = position_encoding.relative_table(self.window, options.num_heads)

    def bias_within(self, window: Sides) -> Tensor:
        """Return the bias added to the logits, ``[heads, N, N]``, of windows clipped to ``window``.

        The original code uses the first N rows and columns of the index of a full window. If a window is clipped in
        rows or columns of the map, these entries belong to other offsets than those of the tokens.
        """
        table: Any = self.relative_position_bias_table
        if window == self.window or not self.exact_offsets:
            tokens = math.prod(window)
            return position_encoding.gather_bias(table, self.window)[:, :tokens, :tokens]
        return position_encoding.gather_bias(position_encoding.clip_table(table, self.window, window), window)

    def forward(self, x: Tensor, plan: VolumePlan, shifted: bool) -> Tensor:  # type: ignore[override]
        """Attend within the windows of ``x`` ``[B, T, H, W, C]``; same shape out."""
        shifted = shifted and any(plan.shift)
        qkv = self.project(window_partition(x, plan, shifted))  # includes padding, whose projection is the bias
        return self.proj_drop(window_reverse(self.proj(self.attend_within(qkv, plan, shifted)), plan, shifted))

    def attend_within(self, qkv: Tensor, plan: VolumePlan, shifted: bool) -> Tensor:
        """Compute the attended values ``[B, nW, N, C]`` of windows ``[B, nW, N, 3C]``."""
        batch, windows, tokens, _ = qkv.shape
        dropout = self.attn_drop if self.training else 0.0
        bias, mask = self.bias_within(plan.window), plan.mask(qkv) if shifted else None
        x = qkv.reshape(batch, windows, tokens, 3, self.num_heads, -1)
        if self.backend == 'eager' or (dropout == 0.0 and can_train_in_windows(qkv)):
            x = x.permute(3, 0, 1, 4, 2, 5).flatten(1, 2)
            if self.backend == 'eager':
                out, weights = attend(x, bias, mask, self.scale)
                out = F.dropout(weights, dropout) @ x[2] if dropout else out
            else:
                out = Attend.apply(x.contiguous(), bias, mask, self.scale)
            return out.transpose(1, 2).reshape(batch, windows, tokens, -1)
        if shifted:  # as in the kernel for images: one mask per window and head, equal for all clips
            q, k, v = x.permute(3, 1, 4, 0, 2, 5).flatten(1, 2)
        else:
            q, k, v = x.permute(3, 0, 1, 4, 2, 5).flatten(1, 2)
        added = sdpa.additive_mask(bias, plan, shifted, like=q)
        out = sdpa.attend(q, k, v, added, dropout, self.scale)
        if shifted:
            out = out.reshape(windows, self.num_heads, batch, tokens, -1).permute(2, 0, 3, 1, 4)
        else:
            out = out.reshape(batch, windows, self.num_heads, tokens, -1).transpose(2, 3)
        return out.flatten(3)
