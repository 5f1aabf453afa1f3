"""Sliding-window attention: every token attends to its neighbourhood (Swin paper, Tables 5 and 6).

A token attends to the ``N = Mh * Mw`` positions around it, from ``Mh // 2`` rows above and ``Mw // 2`` columns to the
left (so that an even window reaches one further up and left). A position outside of the map has the logit
:data:`swin_backbone.attention.window_plan.MASKED_LOGIT` plus its bias, is part of the softmax, and has the value zero.
This is how the layer works whose kernel the paper refers to (Hu et al., Local relation networks, ICCV 2019).

Existing implementations cannot be used: PyTorch's flex_attention has no backward pass on CPUs and is fast only when
compiled, and neighbourhood attention (NATTEN) moves neighbourhoods inwards at borders, which is a different function.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from swin_backbone.attention import position_encoding
from swin_backbone.attention.kernels.eager import widen
from swin_backbone.attention.window import AttentionOptions, CosineWindowAttention, WindowAttention
from swin_backbone.attention.window_plan import CONSTANTS, MASKED_LOGIT, WindowPlan


def sliding_naive(
    qkv: Tensor,
    bias: Tensor | None,
    window: tuple[int, int],
    num_heads: int,
    scale: float | Tensor,
    dropout: float = 0.0,
) -> Tensor:
    """Compute the definition: gather keys and values of every neighbourhood, then use dense operations.

    Args:
        qkv: queries, keys and values ``[B, H, W, 3C]``, ordered (q, k, v) x heads x head dim.
        bias: added to the logits, ``[heads, N]``, from the first row and column of the neighbourhood to the last.
        window: rows and columns of the neighbourhood, ``(Mh, Mw)``.
        num_heads: attention heads.
        scale: factor on the logits before the bias; a number, or one per head ``[heads, 1, 1]``.
        dropout: probability of dropping an attention weight; 0 outside training.

    Returns:
        The attended values ``[B, H, W, C]``.
    """
    q, k, v = qkv.unflatten(-1, (3, num_heads, -1)).unbind(3)  # each [B, H, W, heads, d]
    q = (q * per_head(scale)).to(k.dtype)
    products = (q[..., None, :] @ gather_neighbours(k, window)).squeeze(-2)  # [B, H, W, heads, N]
    inside = CONSTANTS.get(qkv, places_inside, (qkv.shape[1], qkv.shape[2]), window)
    logits = widen(products).masked_fill(~inside[:, :, None], MASKED_LOGIT)
    if bias is not None:
        logits = logits + widen(bias)
    weights = F.dropout(logits.softmax(dim=-1).to(v.dtype), dropout, training=dropout > 0)
    return (gather_neighbours(v, window) @ weights[..., None]).flatten(-3)


def per_head(scale: float | Tensor) -> float | Tensor:
    """Reshape ``scale`` to broadcast over queries ``[..., heads, d]``."""
    return scale.flatten(1) if isinstance(scale, Tensor) else scale


def margins(window: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the extent of a neighbourhood: (rows above, columns left), (rows below, columns right)."""
    before = window[0] // 2, window[1] // 2
    return before, (window[0] - 1 - before[0], window[1] - 1 - before[1])


def gather_neighbours(x: Tensor, window: tuple[int, int]) -> Tensor:
    """Gather the neighbourhoods of ``x`` ``[B, H, W, heads, d]``, zero-padded: ``[B, H, W, heads, d, N]``."""
    (top, left), (bottom, right) = margins(window)
    x = F.pad(x, (0, 0, 0, 0, left, right, top, bottom))
    return x.unfold(1, window[0], 1).unfold(2, window[1], 1).flatten(-2)


def places_inside(size: tuple[int, int], window: tuple[int, int]) -> Tensor:
    """Return whether each position of each token's neighbourhood is inside a map of ``size``, ``[H, W, N]``."""
    return gather_neighbours(torch.ones(1, *size, 1, 1), window)[0, :, :, 0, 0] > 0


def sliding_kernel(
    qkv: Tensor,
    bias: Tensor | None,
    window: tuple[int, int],
    num_heads: int,
    scale: float | Tensor,
    dropout: float = 0.0,
) -> Tensor:
    """Compute :func:`sliding_naive` with PyTorch's fused attention, without a copy of every neighbourhood.

    The map is cut into tiles as large as a window. The queries of a tile attend to the tile and its margins, and a mask
    restricts each query to its neighbourhood. Keys and values are copied less than four times instead of ``N`` times.
    An additional feature marks positions outside of the map: it is 1 in queries, 0 in keys inside, and the masked logit
    in keys outside.
    """
    tiles = -(-qkv.shape[1] // window[0]), -(-qkv.shape[2] // window[1])
    q, k, v = qkv.unflatten(-1, (3, num_heads, -1)).unbind(3)  # each [B, H, W, heads, d]
    dim = q.shape[-1]
    features = -(-(dim + 1) // feature_multiple(qkv)) * feature_multiple(qkv)
    q = F.pad(F.pad((q * per_head(scale)).to(k.dtype), (0, 1), value=1.0), (0, features - dim - 1))
    q = cut_tiles(q, window, tiles)
    k, v = (cut_with_margins(x, window, tiles, features, value) for x, value in ((k, MASKED_LOGIT), (v, 0.0)))
    mask = band_mask(bias, window, like=q)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, scale=1.0)[..., :dim]

    # [B * tiles, heads, N, d] back to the map, cropped where the last tiles extend beyond it
    out = out.reshape(qkv.shape[0], *tiles, num_heads, *window, dim).permute(0, 1, 4, 2, 5, 3, 6)
    out = out.reshape(qkv.shape[0], tiles[0] * window[0], tiles[1] * window[1], -1)
    return out[:, : qkv.shape[1], : qkv.shape[2]]


def feature_multiple(x: Tensor) -> int:
    """Return the number that must divide the features per head for fused kernels: 8 on GPUs, 1 on CPUs."""
    return 1 if x.device.type == 'cpu' else 8


def cut_tiles(x: Tensor, window: tuple[int, int], tiles: tuple[int, int]) -> Tensor:
    """Cut tokens ``[B, H, W, heads, d]``, zero-padded, into tiles: ``[B * tiles, heads, N, d]``."""
    batch, height, width, heads, dim = x.shape
    x = F.pad(x, (0, 0, 0, 0, 0, tiles[1] * window[1] - width, 0, tiles[0] * window[0] - height))
    x = x.reshape(batch, tiles[0], window[0], tiles[1], window[1], heads, dim).permute(0, 1, 3, 5, 2, 4, 6)
    return x.reshape(batch * tiles[0] * tiles[1], heads, window[0] * window[1], dim)


def cut_with_margins(
    x: Tensor, window: tuple[int, int], tiles: tuple[int, int], features: int, outside: float
) -> Tensor:
    """Cut tokens ``[B, H, W, heads, d]``, zero-padded, into tiles with margins.

    Args:
        x: the tokens.
        window: rows and columns of a tile and of a neighbourhood.
        tiles: tiles per column and per row.
        features: features of the result, more than ``d``.
        outside: value of feature ``d`` outside of the map; it is 0 inside.

    Returns:
        ``[B * tiles, heads, (2Mh - 1) * (2Mw - 1), features]``.
    """
    batch, height, width, heads, dim = x.shape
    (top, left), (bottom, right) = margins(window)
    bottom, right = bottom + tiles[0] * window[0] - height, right + tiles[1] * window[1] - width
    beyond = (0, 0, 0, 0, left, right, top, bottom)
    marker = F.pad(x.new_zeros(1, height, width, 1, 1), beyond, value=outside)
    padded = F.pad(x, beyond)
    padded = torch.cat([padded, marker.expand(batch, -1, -1, heads, -1)], dim=-1)
    padded = F.pad(padded, (0, features - dim - 1))
    rows, cols = 2 * window[0] - 1, 2 * window[1] - 1
    cut = padded.unfold(1, rows, window[0]).unfold(2, cols, window[1])  # [B, *tiles, heads, features, rows, cols]
    return cut.permute(0, 1, 2, 3, 5, 6, 4).reshape(-1, heads, rows * cols, features)


def band_mask(bias: Tensor | None, window: tuple[int, int], like: Tensor) -> Tensor:
    """Build the additive mask from a tile's queries to its keys with margins, ``[1, heads or 1, N, (2Mh-1)(2Mw-1)]``.

    It is the bias for keys in the neighbourhood of a query, and minus infinity for others.
    """
    tokens = window[0] * window[1]
    spread = like.new_zeros(1, tokens) if bias is None else bias.to(like.dtype)
    index = CONSTANTS.get(like, band_index, window)
    return F.pad(spread, (0, 1), value=-math.inf)[:, index].view(1, -1, tokens, index.numel() // tokens)


def band_index(window: tuple[int, int]) -> Tensor:
    """Return the position of each key in the neighbourhood of each query of a tile; N for keys outside of it."""
    size = (2 * window[0] - 1, 2 * window[1] - 1)
    query_row, query_col, key_row, key_col = torch.meshgrid(
        *(torch.arange(length) for length in (*window, *size)), indexing='ij'
    )
    row, col = key_row - query_row, key_col - query_col
    near = (row >= 0) & (row < window[0]) & (col >= 0) & (col < window[1])
    return torch.where(near, row * window[1] + col, window[0] * window[1]).flatten()


SLIDING: dict[str, Callable[..., Tensor]] = {'sliding-naive': sliding_naive, 'sliding-kernel': sliding_kernel}
"""Implementations of sliding-window attention; the first one is the definition."""


class SlidingAttention(WindowAttention):
    """V1's attention in sliding windows; the bias table has a row per position of a neighbourhood."""

    def __init__(self, options: AttentionOptions) -> None:
        super().__init__(options)
        self.slide = SLIDING[options.method]

    def build_position(self, options: AttentionOptions) -> None:
        """Create the table of position biases ``[N, heads]``."""
        table = position_encoding.neighbour_table(options.window, options.num_heads) if options.relative_bias else None
        self.relative_position_bias_table = table

    def position_bias(self, window: tuple[int, int] | None = None) -> Tensor | None:
        """Return the bias of every position of a neighbourhood, ``[heads, N]``; ``window`` is ignored."""
        table = self.relative_position_bias_table
        return None if table is None else table.t()

    def forward(self, x: Tensor, plan: WindowPlan, shifted: bool) -> Tensor:
        """Attend in the neighbourhoods of ``x`` ``[B, H, W, C]``; same shape out. ``shifted`` is ignored."""
        dropout = self.attn_drop if self.training else 0.0
        scale, bias = self.logit_scale_factor(), self.position_bias()
        out = self.slide(self.project(x), bias, self.window, self.num_heads, scale, dropout)
        return self.proj_drop(self.proj(out))


class CosineSlidingAttention(CosineWindowAttention):
    """V2's attention in sliding windows."""

    def __init__(self, options: AttentionOptions) -> None:
        super().__init__(options)
        self.slide = SLIDING[options.method]

    forward = SlidingAttention.forward

    def position_bias(self, window: tuple[int, int] | None = None) -> Tensor | None:
        """Return the bias of every position of a neighbourhood, ``[heads, N]``; ``window`` is ignored."""
        if self.cpb_mlp is None:
            return None
        return position_encoding.central_bias(self.cpb_mlp.table(self.window, self.pretrained_window), self.window)
