"""Padding, cyclic shift and window partition, with their inverses, and the attention mask of shifted windows.

The semantics are those of the original detection code: a map is padded at the right and bottom to whole windows, rolled
up and left by half a window in shifted blocks, and cut into windows. The mask separates regions that the roll made
adjacent; it does not hide padding, so padded tokens act as keys (Swin paper, section 3.2 and figure 4).
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ParamSpec, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from swin_backbone.attention.wrapped_layers import is_transformed

MASKED_LOGIT = -100.0
"""Value added to a logit between tokens of different regions, as in the original code; finite in half precision."""

CACHED_BYTES = 256 * 2**20
"""Upper bound on the size of the cache of masks and indices, over all map sizes and devices."""

AXIS_MASKS = 3
"""Largest number of different masks along one axis."""

P = ParamSpec('P')

if TYPE_CHECKING:
    from swin_backbone.attention.window_3d import VolumePlan

    AnyPlan: TypeAlias = 'WindowPlan | VolumePlan'


class TensorCache:
    """A least-recently-used cache of constant tensors, bounded in bytes and thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.cached_bytes = 0
        self._entries: OrderedDict[tuple[object, ...], Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, like: Tensor, build: Callable[P, Tensor], *args: P.args, **kwargs: P.kwargs) -> Tensor:
        """Return ``build(*args)`` on the device of ``like``, from the cache if it is there.

        The tensor is built on that device: copying it from the host would wait for all queued kernels.

        Under tracing and transforms (torch.compile, export, torch.func, fake or subclassed tensors) the cache is
        neither read nor written: a traced constant must not outlive its trace, and a real one must not enter it.
        """
        if torch.compiler.is_compiling() or type(like) not in (Tensor, torch.nn.Parameter) or is_transformed():
            return build(*args, **kwargs).to(like.device)
        key = (build, args, tuple(kwargs.items()), like.device)
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return self._entries[key]
        # An inference tensor could not be saved for a later backward pass.
        with torch.inference_mode(False), torch.no_grad(), torch.device(like.device):
            value = build(*args, **kwargs)
        with self._lock:
            if key not in self._entries:  # another thread may have built it meanwhile
                self._entries[key] = value
                self.cached_bytes += value.nbytes
            while self.cached_bytes > self.max_bytes and len(self._entries) > 1:
                _, evicted = self._entries.popitem(last=False)
                self.cached_bytes -= evicted.nbytes
        return value

    def clear(self) -> None:
        """Remove every tensor."""
        with self._lock:
            self._entries.clear()
            self.cached_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)


CONSTANTS = TensorCache(CACHED_BYTES)


@dataclass(frozen=True)
class WindowPlan:
    """How a map of a given size is cut into windows. It has integers only: hashable, independent of device and dtype.

    Attributes:
        height: rows of real tokens.
        width: columns of real tokens.
        window: rows and columns of a window, ``(Mh, Mw)``.
        shifts: whether shifted blocks shift this map.
    """

    height: int
    width: int
    window: tuple[int, int]
    shifts: bool = True

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of real tokens."""
        return self.height, self.width

    @property
    def padded_size(self) -> tuple[int, int]:
        """Rows and columns after padding at the right and bottom to whole windows; padded tokens act as keys."""
        rows, cols = self.window
        return -(-self.height // rows) * rows, -(-self.width // cols) * cols

    @property
    def window_grid(self) -> tuple[int, int]:
        """Windows per column and per row."""
        return self.padded_size[0] // self.window[0], self.padded_size[1] // self.window[1]

    @property
    def cut_size(self) -> tuple[int, int]:
        """Rows and columns of the map that is cut into windows."""
        return self.window_grid[0] * self.window[0], self.window_grid[1] * self.window[1]

    @property
    def shift(self) -> tuple[int, int]:
        """Rows and columns by which a shifted block shifts the map: half a window."""
        return (self.window[0] // 2, self.window[1] // 2) if self.shifts else (0, 0)

    @property
    def num_windows(self) -> int:
        """Windows per image, ``nW``."""
        return self.window_grid[0] * self.window_grid[1]

    @property
    def tokens(self) -> int:
        """Tokens per window, ``N``."""
        return self.window[0] * self.window[1]

    def padded(self) -> 'WindowPlan':
        """Return the plan of the padded map."""
        return WindowPlan(*self.padded_size, self.window, self.shifts)

    def shrunk(self) -> 'WindowPlan':
        """Return the plan of this map in the original classification code.

        If a map is no larger than a window, in rows or in columns, it is not shifted, and window sides are limited to
        the shortest side of the map.
        """
        rows, cols = self.window
        if self.height > rows and self.width > cols:
            return self
        shortest = int(min(self.size))
        return WindowPlan(*self.size, (min(rows, shortest), min(cols, shortest)), shifts=False)

    def with_one_window_per_mask(self) -> 'WindowPlan':
        """Return the smallest plan that has every mask of this one."""
        return WindowPlan(2 * self.window[0], 2 * self.window[1], self.window)

    def axis_mask_numbers(self, axis: int) -> Tensor:
        """Return the mask number of every window along an axis: 1 for the last one, 0 for the others."""
        return (torch.arange(self.window_grid[axis]) == self.window_grid[axis] - 1).int()

    def mask_numbers(self) -> Tensor:
        """Return the mask number of each window of a shifted block, ``[nW]``; windows of one number share a mask."""
        return (AXIS_MASKS * self.axis_mask_numbers(0)[:, None] + self.axis_mask_numbers(1)[None, :]).flatten()

    def mask(self, like: Tensor) -> Tensor:
        """Return the additive mask of a shifted block, ``[nW, N, N]`` float32, on the device of ``like``."""
        return CONSTANTS.get(like, region_mask, self)

    def with_pad_shift(self, shifted: bool) -> 'WindowPlan':
        """Return the plan for a shift by padding, or this plan if there is no shift."""
        if not shifted or self.shift == (0, 0):
            return self
        return PadShiftPlan(self.height, self.width, self.window)

    def shift_map(self, x: Tensor) -> Tensor:
        """Shift a padded map ``[B, *padded_size, C]`` before it is cut into windows, ``[B, *cut_size, C]``."""
        return torch.roll(x, (-self.shift[0], -self.shift[1]), dims=(1, 2))

    def unshift_map(self, x: Tensor) -> Tensor:
        """Invert :meth:`shift_map`."""
        return torch.roll(x, self.shift, dims=(1, 2))


def is_recording() -> bool:
    """Return whether ``torch.export`` or ``torch.jit.trace`` records the forward pass, for example for ONNX.

    ``torch.compile`` guards code that depends on a size and recompiles it for other sizes; a recorded graph cannot.
    """
    return torch.compiler.is_exporting() or torch.jit.is_tracing()


def pad_to_windows(x: Tensor, plan: 'AnyPlan', pad_value: Tensor | None) -> Tensor:
    """Pad ``x`` ``[B, H, W, C]`` at the right and bottom to ``padded_size`` with ``pad_value`` ``[C]``, or zeros."""
    missing = [padded - size for padded, size in zip(plan.padded_size, plan.size, strict=True)]
    if not any(missing):
        return x
    if pad_value is None:
        return F.pad(x, (0, 0, *(n for length in reversed(missing) for n in (0, length))))
    for axis in range(len(missing), 0, -1):
        if missing[axis - 1]:
            shape = (*x.shape[:axis], missing[axis - 1], *x.shape[axis + 1 :])
            x = torch.cat([x, pad_value.to(x.dtype).expand(shape)], dim=axis)
    return x


def to_window_grid(x: Tensor, plan: 'AnyPlan', shifted: bool, pad_value: Tensor | None = None) -> Tensor:
    """Pad ``x`` ``[B, H, W, C]``, shift it if ``shifted``, and view it as windows ``[B, nH, Mh, nW, Mw, C]``."""
    x = pad_to_windows(x, plan, pad_value)
    if shifted:
        x = plan.shift_map(x)
    sides = [side for pair in zip(plan.window_grid, plan.window, strict=True) for side in pair]
    return x.reshape(x.shape[0], *sides, x.shape[-1])


def from_window_grid(x: Tensor, plan: 'AnyPlan', shifted: bool) -> Tensor:
    """Invert :func:`to_window_grid`: from ``[B, nH, Mh, nW, Mw, C]`` to the real tokens ``[B, H, W, C]``."""
    x = x.reshape(x.shape[0], *plan.cut_size, x.shape[-1])
    if shifted:
        x = plan.unshift_map(x)
    return x[(slice(None), *map(slice, plan.size))]


def window_partition(x: Tensor, plan: 'AnyPlan', shifted: bool, pad_value: Tensor | None = None) -> Tensor:
    """Cut a map ``[B, H, W, C]`` into windows ``[B, nW, N, C]``, padding with ``pad_value`` ``[C]`` (zeros if None)."""
    x = to_window_grid(x, plan, shifted, pad_value)
    axes = range(1, x.dim() - 1)
    x = x.permute(0, *axes[::2], *axes[1::2], x.dim() - 1)
    return x.reshape(x.shape[0], plan.num_windows, plan.tokens, x.shape[-1])


def window_reverse(windows: Tensor, plan: 'AnyPlan', shifted: bool) -> Tensor:
    """Invert :func:`window_partition`: from ``[B, nW, N, C]`` to the map ``[B, H, W, C]`` without padding."""
    batch, _, _, channels = windows.shape
    x = windows.reshape(batch, *plan.window_grid, *plan.window, channels)
    axes, half = range(1, x.dim() - 1), len(plan.window)
    pairs = [axis for pair in zip(axes[:half], axes[half:], strict=True) for axis in pair]
    return from_window_grid(x.permute(0, *pairs, x.dim() - 1), plan, shifted)


def axis_regions(length: int, window: int, shift: int) -> Tensor:
    """Return the region of each position of a rolled axis, ``[length]``: 1 and 2 in the last window, 0 elsewhere."""
    position = torch.arange(length)
    return (position >= length - window).int() + (position >= length - shift).int()


def region_ids(plan: 'AnyPlan') -> Tensor:
    """Return the region of every token of the rolled map, ``[nW, N]``; tokens attend within their region."""
    ids = torch.zeros((), dtype=torch.int32)
    for axis in map(axis_regions, plan.cut_size, plan.window, plan.shift):
        ids = 3 * ids[..., None] + axis
    return window_partition(ids[None, ..., None], plan.padded(), False)[0, ..., 0]


def region_mask(plan: 'AnyPlan') -> Tensor:
    """Build the additive mask of a shifted block ``[nW, N, N]``: 0 within a region, :data:`MASKED_LOGIT` across."""
    ids = region_ids(plan)
    return (ids[:, :, None] != ids[:, None, :]) * MASKED_LOGIT


def window_tokens(plan: WindowPlan, shifted: bool, batch: int) -> Tensor:
    """Return indices into the flattened batch ``[B * H * W]`` for every window, ``[B * nW, N]``; -1 for padding.

    In a shifted block, windows are sorted by mask number (:meth:`WindowPlan.mask_numbers`), then by image.
    """
    per_image = plan.height * plan.width
    numbers = torch.arange(1, batch * per_image + 1).view(batch, plan.height, plan.width, 1)
    windows = window_partition(numbers, plan, shifted)[..., 0] - 1  # zeros are padding
    if not shifted:
        return windows.flatten(0, 1)
    masks = plan.mask_numbers()
    return torch.cat([windows[:, masks == number].flatten(0, 1) for number in masks.unique()])


@dataclass(frozen=True)
class PadShiftPlan(WindowPlan):
    """Plan of a block that shifts by padding: the map is framed instead of rolled (Swin paper, Table 5).

    A shifted axis has one window more than with a cyclic shift: regions that the cyclic shift separates by its mask are
    in separate windows here, filled up with masked tokens. Padding at the right and bottom, up to :attr:`padded_size`,
    acts as keys as in the cyclic shift, so that both give the same result for every token.
    """

    @property
    def window_grid(self) -> tuple[int, int]:
        """Windows per column and per row."""
        (rows, cols), (win_h, win_w) = self.padded_size, self.window
        return rows // win_h + (self.shift[0] > 0), cols // win_w + (self.shift[1] > 0)

    @property
    def before(self) -> tuple[int, int]:
        """Masked rows above and columns left of the map; below and right of it there are ``shift``."""
        rows, cols = (size - shift if shift else 0 for size, shift in zip(self.window, self.shift, strict=True))
        return rows, cols

    def with_one_window_per_mask(self) -> WindowPlan:
        """Return the smallest plan that has every mask of this one."""
        return PadShiftPlan(2 * self.window[0], 2 * self.window[1], self.window)

    def axis_mask_numbers(self, axis: int) -> Tensor:
        """Return the mask number of every window along an axis: 0 for the first, 2 for the last, 1 for the others."""
        number = torch.arange(self.window_grid[axis])
        if self.shift[axis] == 0:
            return torch.ones_like(number, dtype=torch.int)
        return (number > 0).int() + (number == self.window_grid[axis] - 1).int()

    def mask(self, like: Tensor) -> Tensor:
        """Return the additive mask, ``[nW, N, N]`` float32 of 0 or minus infinity, on the device of ``like``."""
        return CONSTANTS.get(like, frame_mask, self)

    def shift_map(self, x: Tensor) -> Tensor:
        """Frame a padded map ``[B, *padded_size, C]`` with masked tokens, ``[B, *cut_size, C]``."""
        (top, left), (bottom, right) = self.before, self.shift
        return F.pad(x, (0, 0, left, right, top, bottom))

    def unshift_map(self, x: Tensor) -> Tensor:
        """Invert :meth:`shift_map`."""
        (top, left), (rows, cols) = self.before, self.padded_size
        return x[:, top : top + rows, left : left + cols]


def frame_mask(plan: PadShiftPlan) -> Tensor:
    """Build the additive mask ``[nW, N, N]`` of :class:`PadShiftPlan`: minus infinity for keys of the frame."""
    unframed = torch.ones(1, *plan.padded_size, 1)
    keys = window_partition(unframed, PadShiftPlan(*plan.padded_size, plan.window), True)[0, :, :, 0]
    hidden = torch.zeros_like(keys).masked_fill(keys == 0, -torch.inf)
    return hidden[:, None, :].repeat(1, plan.tokens, 1)
