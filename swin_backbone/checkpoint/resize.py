"""Resize weights for another window, image size or number of image channels."""

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_backbone.attention.position_encoding import CPB_RANGE, neighbour_index
from swin_backbone.checkpoint.layouts import NATIVE_BLOCK, parse
from swin_backbone.checkpoint.output_norms import State
from swin_backbone.checkpoint.parameter_names import modules_of

TABLE = 'attn.relative_position_bias_table'
EMBEDDING = 'absolute_pos_embed'
PATCH = 'patch_embed.proj.weight'
QKV = ('attn.qkv.weight', 'attn.qkv.bias')


class MisfitError(Exception):
    """Raised for weights that cannot be adapted; the message gives the reason."""


def shapes_differ(value: Tensor, target: Sequence[int]) -> MisfitError:
    """Return the error for a shape that cannot be adapted."""
    return MisfitError(f'{tuple(value.shape)} in the file, {tuple(target)} in the backbone')


def bicubic(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize ``maps`` ``[1, channels, rows, columns]`` like the original code, computed in at least float32."""
    dtype = torch.promote_types(maps.dtype, torch.float32)
    return F.interpolate(maps.to(dtype), size=size, mode='bicubic', align_corners=False).to(maps.dtype)


def offsets(window: tuple[int, int]) -> tuple[int, int]:
    """Return the number of vertical and horizontal offsets between the tokens of a window."""
    return 2 * window[0] - 1, 2 * window[1] - 1


def by(size: tuple[int, int]) -> str:
    """Format a size as ``rows x columns``."""
    return f'{size[0]}x{size[1]}'


def window_of_index(index: Tensor) -> tuple[int, int]:
    """Return the window of a ``relative_position_index`` (``[N, N]`` or flat)."""
    tokens = math.isqrt(index.numel())
    steps = (index.flatten()[0] - index.flatten()[:tokens]).tolist()
    # Along the first row of the window, the index decreases by one from column to column.
    columns = next((number for number, step in enumerate(steps) if step != number), tokens)
    return tokens // columns, columns


def window_of_table(table: Tensor) -> tuple[int, int] | None:
    """Return the square window of a table; None if its length fits no square window."""
    side = math.isqrt(len(table))
    return ((side + 1) // 2, (side + 1) // 2) if side * side == len(table) and side % 2 else None


def stored_window(state: State, stem: str) -> tuple[int, int] | None:
    """Return the window of the block with prefix ``stem`` from its buffers or its square table; None if unknown."""
    index, coords = state.get(f'{stem}attn.relative_position_index'), state.get(f'{stem}attn.relative_coords_table')
    if index is not None and index.numel():
        return window_of_index(index)
    if coords is not None and coords.dim() == 4:
        return (coords.shape[1] + 1) // 2, (coords.shape[2] + 1) // 2
    table = state.get(stem + TABLE)
    return None if table is None else window_of_table(table)


def fit_table(table: Tensor, index: Tensor | None, target: tuple[int, int], heads: int) -> tuple[Tensor, str]:
    """Return a table ``[(2Mh-1)(2Mw-1), heads]`` for window ``target``, and a note on how it was changed (or '').

    Args:
        table: the file's table.
        index: the file's ``relative_position_index`` of the same block if any; it determines the file's window.
        target: window of the backbone.
        heads: number of attention heads of the backbone.

    Raises:
        MisfitError: if the heads differ, or the file's window cannot be determined.
    """
    length = math.prod(offsets(target))
    if table.dim() != 2 or table.shape[1] != heads:
        raise MisfitError(f'{tuple(table.shape)} in the file, ({length}, {heads}) in the backbone')
    if index is not None and not index.numel():
        raise MisfitError('an empty relative_position_index in the file')
    source = window_of_index(index) if index is not None else window_of_table(table)
    if source is None and len(table) == length:
        source = target
    if source is None or math.prod(offsets(source)) != len(table):
        raise MisfitError(f'{len(table)} offsets in the file, which fit no square window, and its window is not stored')
    if source == target:
        return table, ''
    maps = bicubic(table.t().reshape(1, -1, *offsets(source)), offsets(target))
    return maps.flatten(2)[0].t().contiguous(), f'window {by(source)} to {by(target)}'


def fit_bias(table: Tensor, index: Tensor | None, window: tuple[int, int], target: torch.Size) -> tuple[Tensor, str]:
    """Return a table of shape ``target``, for windows as :func:`fit_table` does, or for sliding windows.

    The table of sliding windows has a row for every position around a query. It is loaded from such a table, or from
    the central offsets of a window's table.

    Raises:
        MisfitError: as in :func:`fit_table`.
    """
    if target[0] != math.prod(window) or target[0] == math.prod(offsets(window)):
        return fit_table(table, index, window, target[1])
    if table.shape == target and index is None:
        return table, ''
    whole, note = fit_table(table, index, window, target[1])
    centre = f'its central {by(window)} offsets'
    return whole[neighbour_index(window)], f'{note}, {centre}' if note else centre


def fit_embedding(embedding: Tensor, target: torch.Size) -> tuple[Tensor, str]:
    """Return an absolute embedding of shape ``target`` ``[1, C, rows, columns]``, and a note on how it was changed.

    Accepts ``[1, C, rows, columns]``, ``[1, N, C]`` as in classification files, and ``[1, 1 + N, C]``, whose first row
    belongs to a class token and is dropped.

    Raises:
        MisfitError: if the channels differ, or the file's grid cannot be determined.
    """
    grid = (target[2], target[3])
    if embedding.dim() == 3:
        tokens = embedding.shape[1]
        if tokens != math.prod(grid) and math.isqrt(tokens) ** 2 != tokens:
            tokens -= 1  # some libraries have a row for a class token, which Swin does not have
        source = grid if tokens == math.prod(grid) else (math.isqrt(tokens), math.isqrt(tokens))
        if math.prod(source) != tokens:
            raise MisfitError(f'{embedding.shape[1]} positions in the file are no square grid: set pretrain_img_size')
        embedding = embedding[:, -tokens:].transpose(1, 2).unflatten(2, source)
    if embedding.dim() != 4 or embedding.shape[:2] != target[:2]:
        raise shapes_differ(embedding, target)
    source = (embedding.shape[2], embedding.shape[3])
    return (embedding, '') if source == grid else (bicubic(embedding, grid), f'grid {by(source)} to {by(grid)}')


def fit_channels(weight: Tensor, target: torch.Size) -> tuple[Tensor, str]:
    """Return the patch embedding for another number of image channels, and a note on how it was changed.

    For one channel, the file's channels are summed, which gives the result for a grey image repeated over them. For any
    other number, they are repeated cyclically and scaled by (channels in the file) / (channels of the backbone).

    Raises:
        MisfitError: if anything but the number of image channels differs.
    """
    if weight.dim() != len(target) or (weight.shape[0], *weight.shape[2:]) != (target[0], *target[2:]):
        raise shapes_differ(weight, target)
    have, want = weight.shape[1], target[1]
    if have == want:
        return weight, ''
    if want == 1:
        return weight.sum(1, keepdim=True), f'{have} channels summed'
    turns = [channel % have for channel in range(want)]
    return weight[:, turns] * (have / want), f'{have} channels repeated as {want}, times {have}/{want}'


def fit_patches(weight: Tensor, target: torch.Size) -> tuple[Tensor, str]:
    """Return the patch embedding as :func:`fit_channels` does, inflated if the patches contain several frames.

    Each frame gets an equal share, so that a clip of identical frames has the embedding of the image.

    Raises:
        MisfitError: as in :func:`fit_channels`.
    """
    if weight.dim() != 4 or len(target) != 5:
        return fit_channels(weight, target)
    frames = target[2]
    weight, note = fit_channels(weight, torch.Size((*target[:2], *target[3:])))
    inflated = f'inflated over {frames} frames'
    weight = weight.unsqueeze(2).repeat(1, 1, frames, 1, 1) / frames
    return weight, f'{note}, {inflated}' if note else inflated


def fit_volume(
    table: Tensor, index: Tensor | None, window: Sequence[int], target: torch.Size, inflated: bool
) -> tuple[Tensor, str]:
    """Return a table ``[(2Mt-1)(2Mh-1)(2Mw-1), heads]`` for 3D windows, and a note on how it was changed.

    A table of images (``inflated``) is resized by :func:`fit_table` and repeated for every offset in time.

    Raises:
        MisfitError: if the heads differ, or a table of videos has another window.
    """
    frames, rows, columns = window
    if inflated:
        table, note = fit_table(table, index, (rows, columns), target[1])
        repeated = 'the same at every offset in time'
        return table.repeat(2 * frames - 1, 1), f'{note}, {repeated}' if note else repeated
    if table.shape == target:
        return table, ''
    spatial = math.prod(offsets((rows, columns)))
    if table.dim() == 2 and table.shape[1] == target[1] and len(table) % (2 * spatial) == spatial:
        fitting = ((len(table) // spatial + 1) // 2, rows, columns)
        raise MisfitError(f'{len(table)} offsets in the file, {target[0]} in the backbone: use window_size={fitting}')
    raise shapes_differ(table, target)


def fit_values(weight: Tensor, target: torch.Size) -> tuple[Tensor, str]:
    """Return the value rows of a QKV weight ``[3C, ...]`` if ``target`` is ``[C, ...]``, and a note.

    Raises:
        MisfitError: if the weight has another shape.
    """
    if weight.shape == target:
        return weight, ''
    if weight.shape != (3 * target[0], *target[1:]):
        raise shapes_differ(weight, target)
    return weight[2 * target[0] :], 'values only, queries and keys dropped'


def trained_window(coords: Tensor) -> int:
    """Return the window by whose largest offset V2's ``relative_coords_table`` ``[1, 2Mh-1, 2Mw-1, 2]`` is scaled."""
    scaled = 2.0 ** (coords[..., 0].max().item() * math.log2(CPB_RANGE)) - 1.0
    offset = (coords.shape[1] - 1) // 2
    return round(offset * CPB_RANGE / scaled) + 1 if scaled > 0 else 1


def window_warnings(state: State, model: nn.Module) -> list[str]:
    """Warn if the file's position bias was trained for other windows than ``model`` assumes; V2 only.

    The list is empty for files without ``relative_coords_table``.
    """
    modules, in_file, in_model = modules_of(model), [], []
    for name, coords in state.items():
        parsed = parse(NATIVE_BLOCK, name)
        if parsed and parsed[1:] == (0, 'attn.relative_coords_table') and coords.dim() == 4 and len(coords) == 1:
            attention = modules.get(name.removesuffix('.relative_coords_table'))
            pretrained = getattr(attention, 'pretrained_window', None)
            if attention is not None and pretrained is not None:
                in_file.append(trained_window(coords))
                in_model.append(pretrained[0] or cast(Any, attention).window[0])
    if in_file == in_model:
        return []
    return [
        f'its position bias was trained for windows of {in_file}, but this backbone assumes {in_model}: pass '
        f'pretrained_window_sizes={in_file} to use the bias as trained'
    ]
