"""Spatial mixing, which Swin-Mixer has in place of attention: one learned matrix per head mixes the tokens of a window.

The semantics are those of the original code, whose networks are built for one image size, continued to any size. A
shift frames the map with zeros instead of rolling it, so that no mask is needed: the first window of an axis begins
``M - M // 2`` places before the map.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_backbone.attention.kernels.exported import as_tensor
from swin_backbone.attention.plan import WindowPlan, is_recording

INIT_STD = 0.02


class SpatialMixing(nn.Module):
    """A grouped 1x1 convolution over heads and places of a window, with the parameters of ``nn.Conv1d``.

    Args:
        num_heads: heads; each has ``C / num_heads`` neighbouring channels, which share a matrix.
        window: rows and columns of a window.
    """

    def __init__(self, num_heads: int, window: tuple[int, int]) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window = window
        tokens = window[0] * window[1]
        self.weight = nn.Parameter(torch.empty(num_heads * tokens, tokens, 1))
        self.bias = nn.Parameter(torch.empty(num_heads * tokens))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The original initialisation."""
        nn.init.trunc_normal_(self.weight, std=INIT_STD)
        nn.init.zeros_(self.bias)

    def extra_repr(self) -> str:
        """The sizes, for printing."""
        return f'num_heads={self.num_heads}, window={self.window}'

    def forward(self, x: Tensor, plan: WindowPlan, shifted: bool) -> Tensor:
        """Mix the tokens within the windows of ``x`` ``[B, H, W, C]``; same shape out.

        A map that is no larger than a window, in rows or in columns, is not shifted, as in the original.
        """
        before = tuple(side - side // 2 for side in self.window)
        if is_recording():
            return self.forward_recorded(x, before if shifted else (0, 0))
        height, width = plan.height, plan.width
        if not shifted or height <= self.window[0] or width <= self.window[1]:
            before = (0, 0)
        top, left = before
        rows, cols = (-(-(n + o) // side) for n, o, side in zip((height, width), before, self.window, strict=True))
        bottom, right = rows * self.window[0] - height - top, cols * self.window[1] - width - left
        x = self.mix(F.pad(x, (0, 0, left, right, top, bottom)), rows, cols)
        return x[:, top : top + height, left : left + width]

    def mix(self, x: Tensor, rows: int, cols: int) -> Tensor:
        """Mix the tokens within ``rows`` x ``cols`` windows of a map ``[B, H, W, C]`` that they cover exactly."""
        (win_h, win_w), heads = self.window, self.num_heads
        batch, dim = x.shape[0], x.shape[-1] // heads
        x = x.reshape(batch, rows, win_h, cols, win_w, heads, dim).permute(5, 2, 4, 0, 1, 3, 6)
        x = x.reshape(heads, win_h * win_w, batch * rows * cols * dim)
        x = torch.baddbmm(self.bias.view(heads, -1, 1), self.weight.view(heads, win_h * win_w, -1), x)
        x = x.view(heads, win_h, win_w, batch, rows, cols, dim).permute(3, 4, 1, 5, 2, 0, 6)
        return x.reshape(batch, rows * win_h, cols * win_w, heads * dim)

    def forward_recorded(self, x: Tensor, before: tuple[int, ...]) -> Tensor:
        """:meth:`forward` for recorded graphs, where no step may depend on a condition on the size of the map.

        There are windows enough for a shift at every size; one that holds nothing but zeros changes no token.
        """
        sizes = (x.shape[1], x.shape[2])
        lengths = [as_tensor(size, x.device) for size in sizes]
        larger = (lengths[0] > self.window[0]) & (lengths[1] > self.window[1])
        grid = [(size + o + side - 1) // side for size, o, side in zip(sizes, before, self.window, strict=True)]
        for axis in (0, 1):
            place = torch.arange(grid[axis] * self.window[axis], device=x.device) - before[axis] * larger
            real = (place >= 0) & (place < lengths[axis])
            x = x.index_select(axis + 1, place.clamp(min=0).minimum(lengths[axis] - 1))
            x = x * real.to(x.dtype).reshape(1, -1, *(1,) * (2 - axis))
        x = self.mix(x, grid[0], grid[1])
        for axis in (0, 1):
            x = x.index_select(axis + 1, torch.arange(sizes[axis], device=x.device) + before[axis] * larger)
        return x
