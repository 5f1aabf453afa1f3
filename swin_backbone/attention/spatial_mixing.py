"""Spatial mixing of Swin-Mixer, which replaces attention: one learned matrix per head mixes the tokens of a window.

The semantics are those of the original code, extended from one fixed image size to any size. A shift pads the map with
zeros instead of rolling it, so that no mask is needed: the first window of an axis starts ``M - M // 2`` positions
before the map.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_backbone.attention.kernels.exported import as_tensor
from swin_backbone.attention.window_plan import WindowPlan, is_recording

INIT_STD = 0.02


class SpatialMixing(nn.Module):
    """A grouped 1x1 convolution over heads and positions of a window, with the parameters of ``nn.Conv1d``.

    Args:
        num_heads: heads; each is ``C / num_heads`` consecutive channels, which share a matrix.
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
        """Initialise the parameters as in the original code."""
        nn.init.trunc_normal_(self.weight, std=INIT_STD)
        nn.init.zeros_(self.bias)

    def extra_repr(self) -> str:
        """Return the sizes, for printing."""
        return f'num_heads={self.num_heads}, window={self.window}'

    def forward(self, x: Tensor, plan: WindowPlan, shifted: bool) -> Tensor:
        """Mix the tokens within the windows of ``x`` ``[B, H, W, C]``; same shape out.

        A map that is no larger than a window, in rows or in columns, is not shifted, as in the original code.
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
        """Mix the tokens within the ``rows`` x ``cols`` windows of a padded map ``[B, H, W, C]``."""
        (win_h, win_w), heads = self.window, self.num_heads
        batch, dim = x.shape[0], x.shape[-1] // heads
        x = x.reshape(batch, rows, win_h, cols, win_w, heads, dim).permute(5, 2, 4, 0, 1, 3, 6)
        x = x.reshape(heads, win_h * win_w, batch * rows * cols * dim)
        x = torch.baddbmm(self.bias.view(heads, -1, 1), self.weight.view(heads, win_h * win_w, -1), x)
        x = x.view(heads, win_h, win_w, batch, rows, cols, dim).permute(3, 4, 1, 5, 2, 0, 6)
        return x.reshape(batch, rows * win_h, cols * win_w, heads * dim)

    def forward_recorded(self, x: Tensor, before: tuple[int, ...]) -> Tensor:
        """Compute :meth:`forward` without branches on the size of the map, for recorded graphs.

        There are enough windows for a shift at every size; a window of zeros has no effect on real tokens.
        """
        batch, height, width, channels = x.shape
        (win_h, win_w), heads = self.window, self.num_heads
        tokens = win_h * win_w
        rows, cols = (height + before[0] + win_h - 1) // win_h, (width + before[1] + win_w - 1) // win_w
        # Few ONNX operators combine a tensor with a number that depends on the input size, so sizes are tensors here.
        last_row, last_col, row_length = (as_tensor(n, x.device) for n in (height - 1, width - 1, cols))
        larger = ((last_row >= win_h) & (last_col >= win_w)).to(torch.int64)
        top, left = before[0] * larger, before[1] * larger

        row = (torch.arange(rows * win_h, device=x.device) - top).reshape(rows, 1, win_h, 1)
        col = (torch.arange(cols * win_w, device=x.device) - left).reshape(1, cols, 1, win_w)
        real = ((row >= 0) & (row <= last_row) & (col >= 0) & (col <= last_col)).flatten()
        place = row.clamp(min=0).minimum(last_row) * (last_col + 1) + col.clamp(min=0).minimum(last_col)
        x = x.reshape(batch, height * width, channels).index_select(1, place.flatten())
        x = (x * real[:, None].to(x.dtype)).reshape(batch * rows * cols, tokens, heads, channels // heads)
        x = x.transpose(1, 2).reshape(batch * rows * cols, heads * tokens, channels // heads)
        x = F.conv1d(x, self.weight, self.bias, groups=heads)
        x = x.reshape(batch * rows * cols, heads, tokens, channels // heads).transpose(1, 2)

        row = torch.arange(height, device=x.device)[:, None] + top
        col = torch.arange(width, device=x.device)[None, :] + left
        number = row // win_h * row_length + col // win_w
        place = (number * win_h + row % win_h) * win_w + col % win_w
        x = x.reshape(batch, rows * cols * tokens, channels).index_select(1, place.flatten())
        return x.reshape(batch, height, width, channels)
