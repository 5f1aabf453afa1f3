"""Window attention for recorded graphs: equal to the definition, without branches on the size of the map.

:mod:`swin_backbone.attention.kernels.eager` pads a map if necessary and crops the result. A recorded graph would
contain one side of each such branch and be wrong for other sizes. Here every size takes the same steps: token indices
are computed from the size, and tokens are gathered by index.
"""

import torch
from torch import Tensor

from swin_backbone.attention.kernels.arguments import Arguments
from swin_backbone.attention.kernels.eager import unit, widen
from swin_backbone.attention.window_plan import MASKED_LOGIT


def window_attention_exported(given: Arguments) -> Tensor:
    """Compute :func:`swin_backbone.attention.kernels.window_attention` without branches on the size of the map."""
    qkv, plan, num_heads = given.qkv, given.plan, given.num_heads
    batch, height, width, channels = qkv.shape[0], plan.height, plan.width, given.channels
    # The blocks of a stage share their plan, so the indices are computed once per stage.
    known = vars(plan).setdefault('places', {})
    if given.shifted not in known:
        known[given.shifted] = Places(height, width, plan.window, plan.shift if given.shifted else (0, 0), qkv.device)
    place = known[given.shifted]

    x = qkv.reshape(batch, height * width, 3 * channels).index_select(1, place.token)
    pad_value = qkv.new_zeros(()) if given.pad_value is None else given.pad_value.to(qkv.dtype)
    x = torch.where(place.is_padding[:, None], pad_value, x)
    x = x.reshape(batch, place.windows, plan.tokens, 3, num_heads, channels // num_heads)
    q, k, v = x.permute(3, 0, 1, 4, 2, 5).unbind()  # each [B, nW, heads, N, d]
    if given.cosine:
        q, k = unit(q), unit(k)

    logits = widen((q * given.scale).to(k.dtype) @ k.transpose(-2, -1))
    if given.bias is not None:
        logits = logits + widen(given.bias)
    if given.shifted:
        region = place.region.reshape(place.windows, 1, plan.tokens)
        logits = logits + (region[..., :, None] != region[..., None, :]).to(logits.dtype) * MASKED_LOGIT
    out = (logits.softmax(dim=-1).to(v.dtype) @ v).transpose(2, 3)  # [B, nW, N, heads, d]

    out = out.reshape(batch, place.windows * plan.tokens, channels).index_select(1, place.of_token)
    return out.reshape(batch, height, width, channels)


class Places:
    """Token indices of the windows of a map, as integer tensors that are computed from its size.

    Args:
        height: rows of real tokens.
        width: columns of real tokens.
        window: rows and columns of a window.
        shift: rows and columns by which the map is rolled.
        device: device of the tensors.

    Attributes:
        windows: number of windows.
        token: index of the token at every position of every window, ``[nW * N]``; an arbitrary real token for padding.
        is_padding: whether a position is padding, ``[nW * N]``.
        region: region of the rolled map, ``[nW * N]``; tokens attend within their region.
        of_token: position of every real token in the windows, ``[H * W]``.
    """

    def __init__(
        self, height: int, width: int, window: tuple[int, int], shift: tuple[int, int], device: torch.device
    ) -> None:
        grid = (height + window[0] - 1) // window[0], (width + window[1] - 1) // window[1]
        self.windows = grid[0] * grid[1]
        # Few ONNX operators combine a tensor with a number that depends on the input size, so sizes are tensors here.
        last_row, last_col, grid_width = (as_tensor(n, device) for n in (height - 1, width - 1, grid[1]))
        rolled, regions, places = [], [], []
        for size, count, side, step in zip((height, width), grid, window, shift, strict=True):
            length = as_tensor(count * side, device)
            position = torch.arange(count * side, device=device)
            rolled.append(position + step - length * (position + step >= length))
            regions.append((position + side >= length).int() + (position + step >= length).int())
            position = torch.arange(size, device=device)
            places.append(position - step + length * (position < step))

        def in_windows(rows: Tensor, cols: Tensor) -> tuple[Tensor, Tensor]:
            return rows.reshape(grid[0], 1, window[0], 1), cols.reshape(1, grid[1], 1, window[1])

        rows, cols = in_windows(*rolled)
        self.token = (rows.minimum(last_row) * (last_col + 1) + cols.minimum(last_col)).flatten()
        self.is_padding = ((rows > last_row) | (cols > last_col)).flatten()
        rows, cols = in_windows(*regions)
        self.region = (3 * rows + cols).flatten()
        rows, cols = places[0][:, None], places[1][None, :]
        number = rows // window[0] * grid_width + cols // window[1]
        self.of_token = ((number * window[0] + rows % window[0]) * window[1] + cols % window[1]).flatten()


def as_tensor(number: int, device: torch.device) -> Tensor:
    """Return a size as a tensor ``[]``."""
    return torch.full((), number, dtype=torch.int64, device=device)
