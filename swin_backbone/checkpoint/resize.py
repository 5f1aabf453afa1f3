"""Resize what a file has for another window, another image size or other image channels."""

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
    """Weights that cannot be adapted; the message says why."""


def shapes_differ(value: Tensor, target: Sequence[int]) -> MisfitError:
    """The error for a shape that cannot be adapted."""
    return MisfitError(f'{tuple(value.shape)} in the file, {tuple(target)} here')


def bicubic(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize ``maps`` ``[1, channels, rows, columns]`` as the original code does, computed in at least float32."""
    dtype = torch.promote_types(maps.dtype, torch.float32)
    return F.interpolate(maps.to(dtype), size=size, mode='bicubic', align_corners=False).to(maps.dtype)


def offsets(window: tuple[int, int]) -> tuple[int, int]:
    """How many vertical and horizontal offsets there are between the tokens of a window."""
    return 2 * window[0] - 1, 2 * window[1] - 1


def by(size: tuple[int, int]) -> str:
    """``rows x columns`` for a message."""
    return f'{size[0]}x{size[1]}'


def window_of_index(index: Tensor) -> tuple[int, int]:
    """The window that a ``relative_position_index`` (``[N, N]`` or flat) was built for."""
    tokens = math.isqrt(index.numel())
    steps = (index.flatten()[0] - index.flatten()[:tokens]).tolist()
    # Within the first row of the window, each column further is one row less in the table.
    columns = next((number for number, step in enumerate(steps) if step != number), tokens)
    return tokens // columns, columns


def window_of_table(table: Tensor) -> tuple[int, int] | None:
    """The square window that a table was built for, if it can be one."""
    side = math.isqrt(len(table))
    return ((side + 1) // 2, (side + 1) // 2) if side * side == len(table) and side % 2 else None


def stored_window(state: State, stem: str) -> tuple[int, int] | None:
    """The window of the block whose names begin with ``stem``, from its buffers or its square table, if it has them."""
    index, coords = state.get(f'{stem}attn.relative_position_index'), state.get(f'{stem}attn.relative_coords_table')
    if index is not None and index.numel():
        return window_of_index(index)
    if coords is not None and coords.dim() == 4:
        return (coords.shape[1] + 1) // 2, (coords.shape[2] + 1) // 2
    table = state.get(stem + TABLE)
    return None if table is None else window_of_table(table)


def fit_table(table: Tensor, index: Tensor | None, target: tuple[int, int], heads: int) -> tuple[Tensor, str]:
    """A table ``[(2Mh-1)(2Mw-1), heads]`` for window ``target``, and a note on what was done to it (empty: nothing).

    Args:
        table: the file's table.
        index: the file's ``relative_position_index`` of the same block, if it has one: it distinguishes windows.
        target: the window that is wanted.
        heads: the attention heads that are wanted.

    Raises:
        MisfitError: the heads differ, or the file's window cannot be known.
    """
    length = math.prod(offsets(target))
    if table.dim() != 2 or table.shape[1] != heads:
        raise MisfitError(f'{tuple(table.shape)} in the file, [{length}, {heads}] here')
    if index is not None and not index.numel():
        raise MisfitError('an empty relative_position_index in the file')
    source = window_of_index(index) if index is not None else window_of_table(table)
    if source is None and len(table) == length:
        source = target
    if source is None or math.prod(offsets(source)) != len(table):
        raise MisfitError(f'{len(table)} offsets in the file, which is no square window and may be several oblong ones')
    if source == target:
        return table, ''
    maps = bicubic(table.t().reshape(1, -1, *offsets(source)), offsets(target))
    return maps.flatten(2)[0].t().contiguous(), f'window {by(source)} to {by(target)}'


def fit_bias(table: Tensor, index: Tensor | None, window: tuple[int, int], target: torch.Size) -> tuple[Tensor, str]:
    """A table of shape ``target``: of a window, as :func:`fit_table` gives it, or of a sliding window.

    The latter has a row for every place around a query. It takes a table of its own, or the centre of a window's.

    Raises:
        MisfitError: as there.
    """
    if target[0] != math.prod(window) or target[0] == math.prod(offsets(window)):
        return fit_table(table, index, window, target[1])
    if table.shape == target and index is None:
        return table, ''
    whole, note = fit_table(table, index, window, target[1])
    centre = f'its central {by(window)} offsets'
    return whole[neighbour_index(window)], f'{note}, {centre}' if note else centre


def fit_embedding(embedding: Tensor, target: torch.Size) -> tuple[Tensor, str]:
    """An absolute embedding of shape ``target`` ``[1, C, rows, columns]``, and a note on what was done to it.

    Takes ``[1, C, rows, columns]`` too, ``[1, N, C]`` as in classification files, and ``[1, 1 + N, C]`` whose first row
    belongs to no patch.

    Raises:
        MisfitError: the channels differ, or the file's grid cannot be known.
    """
    grid = (target[2], target[3])
    if embedding.dim() == 3:
        tokens = embedding.shape[1]
        if tokens != math.prod(grid) and math.isqrt(tokens) ** 2 != tokens:
            tokens -= 1  # some libraries keep a row for a class token that Swin has not
        source = grid if tokens == math.prod(grid) else (math.isqrt(tokens), math.isqrt(tokens))
        if math.prod(source) != tokens:
            raise MisfitError(f'{embedding.shape[1]} positions in the file are no square grid: set pretrain_img_size')
        embedding = embedding[:, -tokens:].transpose(1, 2).unflatten(2, source)
    if embedding.dim() != 4 or embedding.shape[:2] != target[:2]:
        raise shapes_differ(embedding, target)
    source = (embedding.shape[2], embedding.shape[3])
    return (embedding, '') if source == grid else (bicubic(embedding, grid), f'grid {by(source)} to {by(grid)}')


def fit_channels(weight: Tensor, target: torch.Size) -> tuple[Tensor, str]:
    """The patch embedding for another number of image channels, and a note on what was done to it.

    For one channel the file's are added up, which is what a grey image repeated over them would give; for any other
    number they are repeated in turn and scaled by (channels in the file) / (channels wanted).

    Raises:
        MisfitError: something else than the channels differs.
    """
    if weight.dim() != len(target) or (weight.shape[0], *weight.shape[2:]) != (target[0], *target[2:]):
        raise shapes_differ(weight, target)
    have, want = weight.shape[1], target[1]
    if have == want:
        return weight, ''
    if want == 1:
        return weight.sum(1, keepdim=True), f'{have} channels added up'
    turns = [channel % have for channel in range(want)]
    return weight[:, turns] * (have / want), f'{have} channels repeated as {want}, times {have}/{want}'


def fit_patches(weight: Tensor, target: torch.Size) -> tuple[Tensor, str]:
    """The patch embedding as :func:`fit_channels` gives it; that of images, for patches of several frames.

    Each frame gets an equal share, so that a clip of equal frames is embedded as the image is.

    Raises:
        MisfitError: as there.
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
    """A table ``[(2Mt-1)(2Mh-1)(2Mw-1), heads]`` for windows of three axes, and a note on what was done to it.

    One of images, ``inflated``, is resized as by :func:`fit_table` and serves every offset in time.

    Raises:
        MisfitError: the heads differ, or a file of videos has another window.
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
        raise MisfitError(f'{len(table)} offsets in the file, {target[0]} here: window_size={fitting} has them')
    raise shapes_differ(table, target)


def fit_values(weight: Tensor, target: torch.Size) -> tuple[Tensor, str]:
    """The value rows of ``weight`` ``[3C, ...]`` of queries, keys and values where ``target`` is ``[C, ...]``.

    Raises:
        MisfitError: it is of another shape.
    """
    if weight.shape == target:
        return weight, ''
    if weight.shape != (3 * target[0], *target[1:]):
        raise shapes_differ(weight, target)
    return weight[2 * target[0] :], 'values only, queries and keys left out'


def trained_window(coords: Tensor) -> int:
    """The window whose largest offset V2's ``relative_coords_table`` ``[1, 2Mh-1, 2Mw-1, 2]`` was divided by."""
    scaled = 2.0 ** (coords[..., 0].max().item() * math.log2(CPB_RANGE)) - 1.0
    offset = (coords.shape[1] - 1) // 2
    return round(offset * CPB_RANGE / scaled) + 1 if scaled > 0 else 1


def window_warnings(state: State, model: nn.Module) -> list[str]:
    """A warning if the file's position bias was trained for other windows than ``model`` assumes; V2 only.

    Files of some libraries do not contain it; the result is None then.
    """
    modules, theirs, ours = modules_of(model), [], []
    for name, coords in state.items():
        parsed = parse(NATIVE_BLOCK, name)
        if parsed and parsed[1:] == (0, 'attn.relative_coords_table') and coords.dim() == 4 and len(coords) == 1:
            attention = modules.get(name.removesuffix('.relative_coords_table'))
            pretrained = getattr(attention, 'pretrained_window', None)
            if attention is not None and pretrained is not None:
                theirs.append(trained_window(coords))
                ours.append(pretrained[0] or cast(Any, attention).window[0])
    if theirs == ours:
        return []
    return [
        f'its position bias was trained for windows of {theirs}, this backbone takes it as one of {ours}: '
        f'pretrained_window_sizes={theirs} would keep what was learned'
    ]
