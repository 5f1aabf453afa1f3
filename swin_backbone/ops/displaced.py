"""Shifted windows by padding: the other way to shift of the Swin paper's Table 5, equal to the cyclic one."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from swin_backbone.ops.geometry import CONSTANTS, WindowPlan, split


@dataclass(frozen=True)
class DisplacedPlan(WindowPlan):
    """A shifted block by padding: a grid displaced by half a window over a padded map, instead of a map that is rolled.

    Where an axis shifts there is one more window than in a cyclic shift: what that separates by its mask stands in
    windows of its own here, filled up with tokens that nobody sees. Padding at the right and bottom, up to
    :attr:`whole` windows, can be seen as in the cyclic shift, so that both give every token the same result.
    """

    @property
    def grid(self) -> tuple[int, int]:
        """Windows per column and per row."""
        (rows, cols), (win_h, win_w) = self.whole, self.window
        return rows // win_h + (self.shift[0] > 0), cols // win_w + (self.shift[1] > 0)

    @property
    def before(self) -> tuple[int, int]:
        """Rows above and columns left of the map that nobody sees; after it there are as many as ``shift``."""
        rows, cols = (size - shift if shift else 0 for size, shift in zip(self.window, self.shift, strict=True))
        return rows, cols

    @property
    def smallest(self) -> WindowPlan:
        """A plan with one window of every pattern."""
        return DisplacedPlan(2 * self.window[0], 2 * self.window[1], self.window)

    def axis_patterns(self, axis: int) -> Tensor:
        """Pattern of every window along an axis: 0 for the first one, 2 for the last, 1 for the others."""
        number = torch.arange(self.grid[axis])
        if self.shift[axis] == 0:
            return torch.ones_like(number, dtype=torch.int)
        return (number > 0).int() + (number == self.grid[axis] - 1).int()

    def mask(self, like: Tensor) -> Tensor:
        """The additive mask on the device of ``like``: ``[nW, N, N]`` float32, 0 or minus infinity."""
        return CONSTANTS.get(like, frame_mask, self)

    def displace(self, x: Tensor) -> Tensor:
        """Frame a padded map ``[B, *whole, C]`` with tokens that nobody sees, ``[B, *padded, C]``."""
        (top, left), (bottom, right) = self.before, self.shift
        return F.pad(x, (0, 0, left, right, top, bottom))

    def put_back(self, x: Tensor) -> Tensor:
        """The inverse of :meth:`displace`."""
        (top, left), (rows, cols) = self.before, self.whole
        return x[:, top : top + rows, left : left + cols]


def displaced(plan: WindowPlan, shifted: bool) -> WindowPlan:
    """``plan`` for a block whose shift displaces the grid instead of rolling the map; itself without a shift."""
    if not shifted or plan.shift == (0, 0):
        return plan
    return DisplacedPlan(plan.height, plan.width, plan.window)


def frame_mask(plan: DisplacedPlan) -> Tensor:
    """Additive mask of a displaced grid ``[nW, N, N]``: minus infinity where a key was framed around the map."""
    seen = split(torch.ones(1, *plan.whole, 1), DisplacedPlan(*plan.whole, plan.window), True)[0, :, :, 0]
    hidden = torch.zeros_like(seen).masked_fill(seen == 0, -torch.inf)
    return hidden[:, None, :].repeat(1, plan.tokens, 1)
