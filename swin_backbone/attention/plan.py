"""Where tokens go: padding, cyclic shift and windows as pure inverse pairs, and the mask that the shift needs.

The semantics are those of the original detection code: a map is padded at the right and bottom to whole windows, rolled
up and left by half a window in shifted blocks, and cut into windows. The mask separates what the roll brought together;
it does not hide padding, whose tokens are keys like any other (Swin paper, section 3.2 and figure 4).
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec

import torch
import torch.nn.functional as F
from torch import Tensor

MASKED_LOGIT = -100.0
"""What the original adds to a logit between tokens of different regions: finite, hence safe in half precision."""

CACHED_BYTES = 256 * 2**20
"""Upper bound of what the cache of masks and indices keeps alive, over all sizes and devices."""

PATTERNS = 3
"""Most patterns of masks that windows can have along one axis."""

P = ParamSpec('P')


class TensorCache:
    """A least-recently-used cache of constant tensors, bounded in bytes."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.held_bytes = 0
        self._entries: OrderedDict[tuple[object, ...], Tensor] = OrderedDict()

    def get(self, like: Tensor, build: Callable[P, Tensor], *args: P.args, **kwargs: P.kwargs) -> Tensor:
        """``build(*args)`` on the device of ``like``, built at most once while it stays in the cache.

        Under tracing (torch.compile, export, fake or subclassed tensors) nothing is read from or written to the cache:
        a traced constant must not outlive its trace, and a real one must not enter it.
        """
        if torch.compiler.is_compiling() or type(like) not in (Tensor, torch.nn.Parameter):
            return build(*args, **kwargs).to(like.device)
        key = (build, args, tuple(kwargs.items()), like.device)
        if key in self._entries:
            self._entries.move_to_end(key)
            return self._entries[key]
        # An inference tensor could not be saved for a later backward pass.
        with torch.inference_mode(False), torch.no_grad():
            value = build(*args, **kwargs).to(like.device)
        self._store(key, value)
        return value

    def _store(self, key: tuple[object, ...], value: Tensor) -> None:
        self._entries[key] = value
        self.held_bytes += value.nbytes
        while self.held_bytes > self.max_bytes and len(self._entries) > 1:
            _, evicted = self._entries.popitem(last=False)
            self.held_bytes -= evicted.nbytes

    def clear(self) -> None:
        """Forget every tensor."""
        self._entries.clear()
        self.held_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)


CONSTANTS = TensorCache(CACHED_BYTES)


@dataclass(frozen=True)
class WindowPlan:
    """How one map size is cut into windows. Plain integers: hashable, the same on every device and in every dtype.

    Attributes:
        height: rows of real tokens.
        width: columns of real tokens.
        window: rows and columns of a window, ``(Mh, Mw)``.
    """

    height: int
    width: int
    window: tuple[int, int]

    @property
    def whole(self) -> tuple[int, int]:
        """Rows and columns after padding at the right and bottom to whole windows; what is added there can be seen."""
        rows, cols = self.window
        return -(-self.height // rows) * rows, -(-self.width // cols) * cols

    @property
    def grid(self) -> tuple[int, int]:
        """Windows per column and per row."""
        return self.whole[0] // self.window[0], self.whole[1] // self.window[1]

    @property
    def padded(self) -> tuple[int, int]:
        """Rows and columns of the map that is cut into windows."""
        return self.grid[0] * self.window[0], self.grid[1] * self.window[1]

    @property
    def shift(self) -> tuple[int, int]:
        """By how much a shifted block moves the map, half a window."""
        return self.window[0] // 2, self.window[1] // 2

    @property
    def num_windows(self) -> int:
        """Windows per image, ``nW``."""
        return self.grid[0] * self.grid[1]

    @property
    def tokens(self) -> int:
        """Tokens per window, ``N``."""
        return self.window[0] * self.window[1]

    @property
    def smallest(self) -> 'WindowPlan':
        """A plan with one window of every pattern."""
        return WindowPlan(2 * self.window[0], 2 * self.window[1], self.window)

    def axis_patterns(self, axis: int) -> Tensor:
        """Pattern of every window along an axis of a shifted block: 1 for the last one, 0 for the others."""
        return (torch.arange(self.grid[axis]) == self.grid[axis] - 1).int()

    def patterns(self) -> Tensor:
        """Number of the mask that each window of a shifted block has, ``[nW]``: equal numbers, equal masks."""
        return (PATTERNS * self.axis_patterns(0)[:, None] + self.axis_patterns(1)[None, :]).flatten()

    def mask(self, like: Tensor) -> Tensor:
        """The additive mask of a shifted block on the device of ``like``: ``[nW, N, N]`` float32."""
        return CONSTANTS.get(like, region_mask, self)

    def displace(self, x: Tensor) -> Tensor:
        """Move a padded map ``[B, *whole, C]`` so that windows of a shifted block can be cut, ``[B, *padded, C]``."""
        return torch.roll(x, (-self.shift[0], -self.shift[1]), dims=(1, 2))

    def put_back(self, x: Tensor) -> Tensor:
        """The inverse of :meth:`displace`."""
        return torch.roll(x, self.shift, dims=(1, 2))


def pad_to_windows(x: Tensor, plan: WindowPlan, pad_value: Tensor | None) -> Tensor:
    """Pad ``x`` ``[B, H, W, C]`` at the right and bottom to ``[B, *whole, C]`` with ``pad_value`` ``[C]``, or zeros."""
    right, bottom = plan.whole[1] - plan.width, plan.whole[0] - plan.height
    if right == 0 and bottom == 0:
        return x
    if pad_value is None:
        return F.pad(x, (0, 0, 0, right, 0, bottom))
    batch, _, _, channels = x.shape
    pad_value = pad_value.to(x.dtype)
    if right:
        x = torch.cat([x, pad_value.expand(batch, plan.height, right, channels)], dim=2)
    if bottom:
        x = torch.cat([x, pad_value.expand(batch, bottom, plan.whole[1], channels)], dim=1)
    return x


def arrange(x: Tensor, plan: WindowPlan, shifted: bool, pad_value: Tensor | None = None) -> Tensor:
    """Pad ``x`` ``[B, H, W, C]``, displace it in a shifted block, and view windows ``[B, nH, Mh, nW, Mw, C]``."""
    x = pad_to_windows(x, plan, pad_value)
    if shifted:
        x = plan.displace(x)
    (rows, cols), (win_h, win_w) = plan.grid, plan.window
    return x.reshape(x.shape[0], rows, win_h, cols, win_w, x.shape[-1])


def restore(x: Tensor, plan: WindowPlan, shifted: bool) -> Tensor:
    """The inverse of :func:`arrange`: ``[B, nH, Mh, nW, Mw, C]`` back to the real tokens ``[B, H, W, C]``."""
    x = x.reshape(x.shape[0], *plan.padded, x.shape[-1])
    if shifted:
        x = plan.put_back(x)
    return x[:, : plan.height, : plan.width]


def split(x: Tensor, plan: WindowPlan, shifted: bool, pad_value: Tensor | None = None) -> Tensor:
    """Cut a map ``[B, H, W, C]`` into windows ``[B, nW, N, C]``, padding with ``pad_value`` ``[C]`` (zeros if None)."""
    x = arrange(x, plan, shifted, pad_value).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(x.shape[0], plan.num_windows, plan.tokens, x.shape[-1])


def join(windows: Tensor, plan: WindowPlan, shifted: bool) -> Tensor:
    """The inverse of :func:`split`: windows ``[B, nW, N, C]`` back to the map ``[B, H, W, C]`` without its padding."""
    batch, _, _, channels = windows.shape
    x = windows.reshape(batch, *plan.grid, *plan.window, channels).permute(0, 1, 3, 2, 4, 5)
    return restore(x, plan, shifted)


def axis_regions(length: int, window: int, shift: int) -> Tensor:
    """Region of each position of a rolled axis ``[length]``: 0 undisturbed, 1 and 2 the halves of the last window."""
    position = torch.arange(length)
    return (position >= length - window).int() + (position >= length - shift).int()


def region_ids(plan: WindowPlan) -> Tensor:
    """Region of every token of the rolled map, in windows ``[nW, N]``; tokens of one region may see each other."""
    (padded_h, padded_w), (win_h, win_w) = plan.padded, plan.window
    rows = axis_regions(padded_h, win_h, plan.shift[0])
    cols = axis_regions(padded_w, win_w, plan.shift[1])
    ids = (3 * rows[:, None] + cols[None, :]).reshape(plan.grid[0], win_h, plan.grid[1], win_w)
    return ids.permute(0, 2, 1, 3).reshape(plan.num_windows, plan.tokens)


def region_mask(plan: WindowPlan) -> Tensor:
    """Additive mask of a shifted block ``[nW, N, N]``: 0 within a region, :data:`MASKED_LOGIT` across."""
    ids = region_ids(plan)
    return (ids[:, :, None] != ids[:, None, :]) * MASKED_LOGIT


def window_tokens(plan: WindowPlan, shifted: bool, batch: int) -> Tensor:
    """Token of the flattened batch ``[B * H * W]`` at every place of every window: ``[B * nW, N]``, -1 for padding.

    In a shifted block windows are sorted by their mask, as :meth:`WindowPlan.patterns` numbers them; then by image.
    """
    per_image = plan.height * plan.width
    numbers = torch.arange(1, batch * per_image + 1).view(batch, plan.height, plan.width, 1)
    windows = split(numbers, plan, shifted)[..., 0] - 1  # padding is zero before
    if not shifted:
        return windows.flatten(0, 1)
    patterns = plan.patterns()
    return torch.cat([windows[:, patterns == number].flatten(0, 1) for number in patterns.unique()])


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
