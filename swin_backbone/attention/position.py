"""Position information: the relative bias of V1 and of V2, and the absolute embedding."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_backbone.attention.plain import is_plain
from swin_backbone.attention.plan import CONSTANTS

TABLE_STD = 0.02
CPB_HIDDEN = 512
CPB_RANGE = 8.0
CPB_LIMIT = 16.0


def relative_position_index(window: tuple[int, int]) -> Tensor:
    """Row of the bias table for every pair of tokens of a window, flattened ``[N * N]``.

    Rows run over ``(2 * Mh - 1) * (2 * Mw - 1)`` offsets, the vertical one first (Swin paper, section 3.2).
    """
    rows, cols = torch.meshgrid(torch.arange(window[0]), torch.arange(window[1]), indexing='ij')
    rows, cols = rows.flatten(), cols.flatten()
    vertical = rows[:, None] - rows[None, :] + window[0] - 1
    horizontal = cols[:, None] - cols[None, :] + window[1] - 1
    return (vertical * (2 * window[1] - 1) + horizontal).flatten()


def gather_bias(table: Tensor, window: tuple[int, int]) -> Tensor:
    """Spread a table of offsets ``[(2Mh-1)(2Mw-1), heads]`` over all pairs of tokens: ``[heads, N, N]``."""
    tokens = window[0] * window[1]
    index = CONSTANTS.get(table, relative_position_index, window)
    return table[index].view(tokens, tokens, -1).permute(2, 0, 1).contiguous()


def relative_table(window: tuple[int, int], num_heads: int) -> nn.Parameter:
    """A new table of relative position biases ``[(2Mh-1)(2Mw-1), heads]``, truncated normal."""
    table = nn.Parameter(torch.empty((2 * window[0] - 1) * (2 * window[1] - 1), num_heads))
    nn.init.trunc_normal_(table, std=TABLE_STD)
    return table


def neighbour_index(window: tuple[int, int]) -> Tensor:
    """Row of a window's table for every place in a neighbourhood of the same size ``[N]``, its centre the query."""
    centre = window[0] // 2 * window[1] + window[1] // 2
    return relative_position_index(window).view(window[0] * window[1], -1)[centre]


def neighbour_table(window: tuple[int, int], num_heads: int) -> nn.Parameter:
    """A new table of position biases, a row for every place in a neighbourhood ``[N, heads]``, truncated normal."""
    table = nn.Parameter(torch.empty(window[0] * window[1], num_heads))
    nn.init.trunc_normal_(table, std=TABLE_STD)
    return table


def central_bias(table: Tensor, window: tuple[int, int]) -> Tensor:
    """The bias of every place in a neighbourhood ``[heads, N]`` from a window's table ``[(2Mh-1)(2Mw-1), heads]``."""
    return table[CONSTANTS.get(table, neighbour_index, window)].t()


def log_spaced_offsets(window: tuple[int, int], pretrained: tuple[int, int]) -> Tensor:
    """The input of V2's bias network: signed, log-spaced offsets ``[(2Mh-1)(2Mw-1), 2]``, vertical first.

    Offsets are divided by the largest one of the ``pretrained`` window (of ``window`` itself where that is 0), so that
    a network trained with one window serves another (Swin V2 paper, section 3.3).
    """
    axes = []
    for size, trained in zip(window, pretrained, strict=True):
        # A window of one token has no offset but 0: any divisor serves.
        largest = max((trained or size) - 1, 1)
        axes.append(torch.arange(-(size - 1), size, dtype=torch.float32) / largest * CPB_RANGE)
    offsets = torch.stack(torch.meshgrid(*axes, indexing='ij'), dim=-1).reshape(-1, 2)
    return torch.sign(offsets) * torch.log2(offsets.abs() + 1.0) / math.log2(CPB_RANGE)


def without_autocast(device: str) -> AbstractContextManager[None]:
    """Turns mixed precision off on a kind of device; on one that has none, such as 'meta', there is nothing to do."""
    if torch.amp.is_autocast_available(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()


class ContinuousBias(nn.Sequential):
    """V2's network from an offset to one bias per head (Swin V2 paper, section 3.3).

    Args:
        num_heads: attention heads.
    """

    def __init__(self, num_heads: int) -> None:
        super().__init__(nn.Linear(2, CPB_HIDDEN), nn.ReLU(inplace=True), nn.Linear(CPB_HIDDEN, num_heads, bias=False))

    def spread(
        self,
        window: tuple[int, int],
        pretrained: tuple[int, int],
        gather: Callable[[Tensor, tuple[int, int]], Tensor],
    ) -> Tensor:
        """The bias between 0 and 16 that ``gather`` takes from a table of all offsets, computed in at least float32.

        :func:`gather_bias` takes that of all pairs of tokens, ``[heads, N, N]``.
        """
        first: Any = self[0]
        last: Any = self[2]
        if not is_plain(first, last):
            device = next((x.device for x in (*self.parameters(), *self.buffers())), None)
            offsets = log_spaced_offsets(window, pretrained).to(device)
            return CPB_LIMIT * torch.sigmoid(gather(self(offsets), window))
        weight = first.weight
        dtype = torch.promote_types(weight.dtype, torch.float32)
        offsets = CONSTANTS.get(weight, log_spaced_offsets, window, pretrained).to(dtype)
        with without_autocast(offsets.device.type):
            table = F.linear(offsets, weight.to(dtype), first.bias.to(dtype)).relu()
            table = F.linear(table, last.weight.to(dtype))
            return CPB_LIMIT * torch.sigmoid(gather(table, window))


def absolute_embedding(embed_dim: int, grid: tuple[int, int]) -> nn.Parameter:
    """A new absolute position embedding ``[1, C, rows, cols]``, truncated normal."""
    embedding = nn.Parameter(torch.empty(1, embed_dim, *grid))
    nn.init.trunc_normal_(embedding, std=TABLE_STD)
    return embedding


def embedding_for(embedding: Tensor, grid: tuple[int, int]) -> Tensor:
    """The absolute embedding ``[1, C, h, w]``, bicubically resized to ``grid`` and channels last: ``[1, *grid, C]``."""
    if tuple(embedding.shape[2:]) != grid:
        embedding = F.interpolate(embedding, size=grid, mode='bicubic', align_corners=False)
    return embedding.permute(0, 2, 3, 1)
