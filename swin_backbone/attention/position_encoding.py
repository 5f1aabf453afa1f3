"""Position encodings: the relative biases of V1 and V2, and the absolute embedding."""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_backbone.attention.window_plan import CONSTANTS, is_recording
from swin_backbone.attention.wrapped_layers import can_split_calls, is_hooked

TABLE_STD = 0.02
CPB_HIDDEN = 512
CPB_RANGE = 8.0
CPB_LIMIT = 16.0


def relative_position_index(window: tuple[int, int]) -> Tensor:
    """Return the row of the bias table for every pair of tokens of a window, flattened ``[N * N]``.

    The rows are the ``(2 * Mh - 1) * (2 * Mw - 1)`` offsets, the vertical offset first (Swin paper, section 3.2).
    """
    rows, cols = torch.meshgrid(torch.arange(window[0]), torch.arange(window[1]), indexing='ij')
    rows, cols = rows.flatten(), cols.flatten()
    vertical = rows[:, None] - rows[None, :] + window[0] - 1
    horizontal = cols[:, None] - cols[None, :] + window[1] - 1
    return (vertical * (2 * window[1] - 1) + horizontal).flatten()


def backward_bias(table: Tensor, window: tuple[int, ...]) -> Tensor:
    """Return :func:`gather_bias` with the queries in reverse order, as a view ``[heads, Mh, Mw, Mh, Mw]``."""
    maps = table.t().reshape(-1, *(2 * side - 1 for side in window))
    maps = maps.flip(tuple(range(1, maps.dim())))
    # An offset is query minus key. With the table and the queries reversed it is their sum, which a strided view can
    # express: copying the view and accumulating its gradient is much faster than indexing N * N rows.
    for axis, side in enumerate(window, 1):
        maps = maps.unfold(axis, side, 1)
    return maps


def gather_bias(table: Tensor, window: tuple[int, ...]) -> Tensor:
    """Expand a table of offsets ``[(2Mh-1)(2Mw-1), heads]`` to all pairs of tokens: ``[heads, N, N]``."""
    tokens = math.prod(window)
    return backward_bias(table, window).reshape(-1, tokens, tokens).flip(1)


def clip_table(table: Tensor, window: tuple[int, ...], clipped: tuple[int, ...]) -> Tensor:
    """Return the rows of a table ``[(2Mh-1)(2Mw-1), heads]`` whose offsets occur in the smaller window ``clipped``."""
    if clipped == window:
        return table
    maps = table.reshape(*(2 * side - 1 for side in window), -1)
    for axis, (side, within) in enumerate(zip(window, clipped, strict=True)):
        maps = maps.narrow(axis, side - within, 2 * within - 1)
    return maps.flatten(0, -2)


def relative_table(window: tuple[int, ...], num_heads: int) -> nn.Parameter:
    """Create a table of relative position biases ``[(2Mh-1)(2Mw-1), heads]``, truncated normal."""
    table = nn.Parameter(torch.empty(math.prod(2 * side - 1 for side in window), num_heads))
    nn.init.trunc_normal_(table, std=TABLE_STD)
    return table


def neighbour_index(window: tuple[int, int]) -> Tensor:
    """Return the row of a window's table for every position of a query's neighbourhood of that size, ``[N]``."""
    centre = window[0] // 2 * window[1] + window[1] // 2
    return relative_position_index(window).view(window[0] * window[1], -1)[centre]


def neighbour_table(window: tuple[int, int], num_heads: int) -> nn.Parameter:
    """Create a table of position biases with a row per position of a neighbourhood ``[N, heads]``, truncated normal."""
    table = nn.Parameter(torch.empty(window[0] * window[1], num_heads))
    nn.init.trunc_normal_(table, std=TABLE_STD)
    return table


def central_bias(table: Tensor, window: tuple[int, int]) -> Tensor:
    """Return the biases of a neighbourhood ``[heads, N]`` from a window's table ``[(2Mh-1)(2Mw-1), heads]``."""
    return table[CONSTANTS.get(table, neighbour_index, window)].t()


def linear_offsets(window: tuple[int, int], pretrained: tuple[int, int]) -> Tensor:
    """Return offsets ``[(2Mh-1)(2Mw-1), 2]``, vertical first, divided by the largest offset.

    The divisor is the largest offset of the ``pretrained`` window (of ``window`` where that is 0), so that a network
    trained with one window works with another (Swin V2 paper, section 3.3).
    """
    axes = []
    for size, trained in zip(window, pretrained, strict=True):
        # The only offset of a window of one token is 0, so any divisor works.
        largest = max((trained or size) - 1, 1)
        axes.append(torch.arange(-(size - 1), size, dtype=torch.float32) / largest)
    return torch.stack(torch.meshgrid(*axes, indexing='ij'), dim=-1).reshape(-1, 2)


def log_spaced_offsets(window: tuple[int, int], pretrained: tuple[int, int]) -> Tensor:
    """Return the input of V2's bias network: :func:`linear_offsets` on a signed logarithmic scale."""
    offsets = linear_offsets(window, pretrained) * CPB_RANGE
    return torch.sign(offsets) * torch.log2(offsets.abs() + 1.0) / math.log2(CPB_RANGE)


OFFSETS = {'linear': linear_offsets, 'log': log_spaced_offsets}
"""Input of the network of position biases, by the name of the kind."""


def without_autocast(device: str) -> AbstractContextManager[None]:
    """Disable autocast on a device type; do nothing on types without autocast, such as 'meta'."""
    if torch.amp.is_autocast_available(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()


class ContinuousBias(nn.Sequential):
    """V2's network that maps an offset to one bias per head (Swin V2 paper, section 3.3).

    Args:
        num_heads: attention heads.
        kind: a key of :data:`OFFSETS`.
    """

    def __init__(self, num_heads: int, kind: str = 'log') -> None:
        super().__init__(nn.Linear(2, CPB_HIDDEN), nn.ReLU(), nn.Linear(CPB_HIDDEN, num_heads, bias=False))
        self.kind = kind

    def table(self, window: tuple[int, int], pretrained: tuple[int, int]) -> Tensor:
        """Return the bias of every offset ``[(2Mh-1)(2Mw-1), heads]``, between 0 and 16, in at least float32."""
        first: Any = self[0]
        last: Any = self[2]
        if is_hooked(self) or not can_split_calls(*self):
            device = next((x.device for x in (*self.parameters(), *self.buffers())), None)
            if device == torch.device('meta') and 'forward' in first.__dict__:
                device = None  # an offloading wrapper moves the inputs to the weights
            return CPB_LIMIT * torch.sigmoid(self(OFFSETS[self.kind](window, pretrained).to(device)))
        weight = first.weight
        dtype = torch.promote_types(weight.dtype, torch.float32)
        offsets = CONSTANTS.get(weight, OFFSETS[self.kind], window, pretrained).to(dtype)
        with without_autocast(offsets.device.type):
            table = F.linear(offsets, weight.to(dtype), first.bias.to(dtype)).relu()
            return CPB_LIMIT * torch.sigmoid(F.linear(table, last.weight.to(dtype)))


def absolute_embedding(embed_dim: int, grid: tuple[int, int]) -> nn.Parameter:
    """Create an absolute position embedding ``[1, C, rows, cols]``, truncated normal."""
    embedding = nn.Parameter(torch.empty(1, embed_dim, *grid))
    nn.init.trunc_normal_(embedding, std=TABLE_STD)
    return embedding


def embedding_for(embedding: Tensor, grid: tuple[int, int]) -> Tensor:
    """Resize the absolute embedding ``[1, C, h, w]`` to ``grid`` (bicubic), channels last: ``[1, *grid, C]``."""
    if is_recording() or tuple(embedding.shape[2:]) != grid:
        embedding = F.interpolate(embedding, size=grid, mode='bicubic', align_corners=False)
    return embedding.permute(0, 2, 3, 1)
