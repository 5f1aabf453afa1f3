"""Write a backbone to a file in the layout of another implementation."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from swin_backbone.attention.position_encoding import log_spaced_offsets, relative_position_index
from swin_backbone.checkpoint.convert import find_backbone, from_native
from swin_backbone.checkpoint.find import find_file
from swin_backbone.checkpoint.layouts import (
    ABSOLUTE,
    ABSOLUTE_V2,
    MAIN_NORM,
    NATIVE_BLOCK,
    NO_PATCH_NORM,
    NO_QKV_BIAS,
    NO_RELATIVE,
    STAGE_WINDOWS,
    SWIN_V2,
    TORCHVISION,
    WRITABLE,
    fill,
)
from swin_backbone.checkpoint.load import BACKBONE_PREFIXES, BUFFERS
from swin_backbone.checkpoint.network_kind import DESCRIPTIONS, IMAGE, network_of
from swin_backbone.checkpoint.output_norms import State
from swin_backbone.checkpoint.read import read_checkpoint
from swin_backbone.checkpoint.report import Anatomy, anatomy_of
from swin_backbone.checkpoint.resize import EMBEDDING, offsets, stored_window
from swin_backbone.errors import InputError
from swin_backbone.files import replacing

SUFFIXES = ('.pth', '.pt', '.bin', '.safetensors')
PARAMETER = re.compile(
    r'(patch_embed\.(proj|norm)|norm\d?|head|layers\.\d+\.downsample\.norm'
    r'|layers\.\d+\.blocks\.\d+\.(norm[123]|attn\.(qkv|proj)|attn\.cpb_mlp\.0|mlp\.fc[12]))\.(weight|bias)'
    r'|absolute_pos_embed|layers\.\d+\.downsample\.reduction\.weight'
    r'|layers\.\d+\.blocks\.\d+\.attn\.(relative_position_bias_table|logit_scale|[qv]_bias|cpb_mlp\.2\.weight)'
)


def convert_file(
    source: str,
    destination: str | os.PathLike[str],
    to: str,
    force: bool = False,
    window_size: Sequence[int] | None = None,
    pretrained_window_sizes: Sequence[int] | None = None,
) -> str:
    """Write the backbone of ``source`` in another layout, with the final norm and head of a classifier if it has them.

    Args:
        source: a published name, a path or a URL, in any layout.
        destination: the file to write; its suffix determines the format.
        to: the layout, a key of :data:`swin_backbone.checkpoint.layouts.WRITABLE`.
        force: whether to overwrite ``destination``.
        window_size: rows and columns of the windows, for layouts with buffers that depend on them; by default
            determined from ``source``.
        pretrained_window_sizes: V2: as in :class:`swin_backbone.SwinTransformer`, for the same layouts.

    Returns:
        A one-line summary of what was written.

    Raises:
        InputError: if the source cannot be read, the layout cannot represent it, or the destination exists.
    """
    target = Path(destination).expanduser()
    check_destination(target, force)
    if to not in WRITABLE:
        raise InputError(f'unknown layout {to!r}: use one of {", ".join(WRITABLE)}.')
    path = find_file(source)
    found = find_backbone(read_checkpoint(path), str(path))
    network = network_of(found.state)
    if network != IMAGE:
        raise InputError(
            f'{path} contains {DESCRIPTIONS[network]}: only Swin Transformers for images can be converted.'
        )
    state = {name: value for name, value in found.state.items() if PARAMETER.fullmatch(name)}
    rest = [name for name in found.state if name not in state and name.startswith(BACKBONE_PREFIXES)]
    unknown = [name for name in rest if name.rpartition('.')[2] not in BUFFERS]
    if unknown:
        raise InputError(
            f'{path} contains parameters that Swin does not have and that {to} cannot store: {", ".join(unknown[:5])}.'
        )
    anatomy = anatomy_of(state)
    check_supported(state, anatomy, to, str(path))
    if EMBEDDING in state and state[EMBEDDING].dim() == 4:
        state[EMBEDDING] = state[EMBEDDING].flatten(2).transpose(1, 2)
    if WRITABLE[to] is TORCHVISION:
        state.update(position_buffers(found.state, anatomy, window_size, pretrained_window_sizes))
    out = from_native(state, WRITABLE[to])
    write(out, target, WRITABLE[to].container)
    return f'wrote {target}: {len(out)} tensors of {anatomy}, from the {found.layout} to the {to} layout'


def check_destination(target: Path, force: bool) -> None:
    """Raise an error if the destination cannot be written or already exists."""
    if target.suffix not in SUFFIXES:
        raise InputError(f'{target} must end in one of {", ".join(SUFFIXES)}: the suffix determines the format.')
    if target.is_dir() or not target.parent.is_dir():
        problem = 'is a folder' if target.is_dir() else 'is in a folder that does not exist'
        raise InputError(f'{target} {problem}: name a file in an existing folder.')
    if target.exists() and not force:
        raise InputError(f'{target} exists: pass --force to overwrite it, or choose another name.')


def check_supported(state: State, anatomy: Anatomy, to: str, source: str) -> None:
    """Raise an error if the implementations of the layout ``to`` do not support this network."""
    tables = {len(value) for name, value in state.items() if name.endswith('.relative_position_bias_table')}
    features = {
        ABSOLUTE: EMBEDDING in state,
        ABSOLUTE_V2: EMBEDDING in state and anatomy.version == 2,
        NO_PATCH_NORM: not anatomy.patch_norm,
        NO_QKV_BIAS: not anatomy.qkv_bias,
        NO_RELATIVE: not anatomy.relative,
        MAIN_NORM: anatomy.main_norm,
        STAGE_WINDOWS: len(tables) > 1,
        SWIN_V2: anatomy.version == 2,
    }
    if anatomy.values_only:
        raise InputError(f'{source} has attention without queries and keys, which no other implementation supports.')
    for feature in filter(features.get, WRITABLE[to].unsupported):
        raise InputError(f'{source} has {feature}, which {to} does not support: choose another layout.')


def position_buffers(
    source: State, anatomy: Anatomy, window_size: Sequence[int] | None, pretrained: Sequence[int] | None
) -> State:
    """Compute the buffers in torchvision's files: the index of the bias table and V2's coordinates."""
    if window_size and len(window_size) > 2:
        raise InputError(f'--window-size accepts a side, or rows and columns; got {list(window_size)}.')
    if pretrained and len(pretrained) != len(anatomy.depths):
        raise InputError(f'--pretrained-window-sizes accepts one size per stage ({len(anatomy.depths)}).')
    out: State = {}
    for stage, depth in enumerate(anatomy.depths):
        trained = (pretrained[stage] if pretrained else 0,) * 2
        for block in range(depth):
            place = fill(NATIVE_BLOCK, stage, block)
            window = (window_size[0], window_size[-1]) if window_size else stored_window(source, place)
            if window is None:
                raise InputError('the window cannot be determined from the source: pass --window-size.')
            stem = f'{place}attn.'
            out[f'{stem}relative_position_index'] = relative_position_index(window)
            if anatomy.version == 2:
                coords = None if window_size or pretrained else source.get(f'{stem}relative_coords_table')
                if coords is None:
                    rows, columns = offsets(window)
                    coords = log_spaced_offsets(window, trained).reshape(1, rows, columns, 2)
                out[f'{stem}relative_coords_table'] = coords
    return out


def write(state: State, target: Path, container: str) -> None:
    """Write ``state`` atomically, in the format given by the suffix of ``target``."""
    # Views are copied: torch.save would write the whole storage of each of them.
    contents: dict[str, Any] = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    with replacing(target) as part:
        if target.suffix == '.safetensors':
            from safetensors.torch import save_file

            save_file(contents, part, metadata={'format': 'pt'})
        else:
            torch.save({container: contents} if container else contents, part)
