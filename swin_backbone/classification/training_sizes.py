"""What a classifier was trained with that its weights show in part or not at all: windows, and the size of images."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swin_backbone.checkpoint.layouts import NATIVE_BLOCK, fill
from swin_backbone.checkpoint.output_norms import State
from swin_backbone.checkpoint.published import WEIGHTS
from swin_backbone.checkpoint.report import Anatomy
from swin_backbone.checkpoint.resize import EMBEDDING, stored_window, trained_window
from swin_backbone.errors import InputError

Window = tuple[int, int]

NAME = re.compile(r'window(\d+)(?:to(\d+))?[-_](\d{3})(?:to(\d{3}))?')
"""Windows and image sizes in the names of files and repositories: before fine-tuning at other ones, and after."""

CONFIG = 'config.json'
"""What Transformers and timm keep beside their weights."""

LAST_WINDOW = 12
"""The largest window that covers the whole last map in a published network; larger ones cover that before it."""


@dataclass(frozen=True)
class Trained:
    """What a classifier was trained with; 0 and () where that is not known.

    Attributes:
        image_size: side of the images in pixels.
        windows: rows and columns of a window per stage.
        pretrained: V2: side of the window per stage that the position bias was trained with; zeros for the stage's own.
    """

    image_size: int = 0
    windows: tuple[Window, ...] = ()
    pretrained: tuple[int, ...] = ()

    def or_else(self, other: 'Trained') -> 'Trained':
        """This, with what is not known taken from ``other``."""
        return Trained(
            self.image_size or other.image_size, self.windows or other.windows, self.pretrained or other.pretrained
        )


def trained_with(state: State, anatomy: Anatomy, source: str, path: Path | None, given: Trained) -> Trained:
    """What is known, from the user before the weights, and from these before names and descriptions.

    Without any information the image size is the one for which the last map is one window.

    Args:
        state: a classifier under native names.
        anatomy: its sizes.
        source: what the user calls it.
        path: its file or folder, if it has one.
        given: the user's values.

    Raises:
        InputError: the windows are unknown.
    """
    stages = len(anatomy.depths)
    known = given.or_else(told_by_weights(state, anatomy)).or_else(told_by_name(source, stages))
    if path is not None:
        known = known.or_else(told_by_config(path, stages)).or_else(told_by_name(str(path), stages))
    if not known.windows:
        raise InputError(
            f'{source} does not tell the windows of its network, which weights of Swin V2 fit whatever they are: give '
            'window_size (--window-size).'
        )
    side = known.windows[-1][0]
    if len(set(known.windows)) == 1 and side > LAST_WINDOW:
        side //= 2
    return known.or_else(Trained(side * anatomy.patch_size * 2 ** (stages - 1), (), (0,) * stages))


def told_by_weights(state: State, anatomy: Anatomy) -> Trained:
    """Windows and image size from tables, matrices and buffers."""
    places = [
        [fill(NATIVE_BLOCK, stage, block) for block in range(depth)] for stage, depth in enumerate(anatomy.depths)
    ]
    if anatomy.mixed:
        found: list[Window | None] = [(math.isqrt(tokens), math.isqrt(tokens)) for tokens in anatomy.mixed]
    else:
        found = [next(filter(None, (stored_window(state, place) for place in blocks)), None) for blocks in places]
    windows = tuple(window for window in found if window is not None)
    coords = [state.get(f'{first}attn.relative_coords_table') for first, *_ in places]
    pretrained = tuple(trained_window(table) for table in coords if table is not None and table.dim() == 4)
    return Trained(
        image_size_in(state, anatomy, windows),
        windows if len(windows) == len(places) else (),
        pretrained if len(pretrained) == len(places) else (),
    )


def image_size_in(state: State, anatomy: Anatomy, windows: Sequence[Window]) -> int:
    """Side of the images by the absolute embedding, or by the number of windows that a mask is for; 0 without both."""
    tokens = 0
    if EMBEDDING in state:
        shape = state[EMBEDDING].shape
        tokens = shape[1] if len(shape) == 3 else math.prod(shape[2:])
    elif (mask := state.get(f'{fill(NATIVE_BLOCK, 0, 1)}attn_mask')) is not None and windows:
        tokens = len(mask) * math.prod(windows[0])
    return math.isqrt(tokens) * anatomy.patch_size


def told_by_name(name: str, stages: int) -> Trained:
    """Windows and image size from a published name, or from a name in the style of authors and libraries."""
    if name in WEIGHTS:
        known = WEIGHTS[name]
        pretrained = known.pretrained_window_sizes if known.version == 2 else ()
        return Trained(known.image_size, ((known.window,) * 2,) * stages, pretrained)
    match = NAME.search(name)
    if match is None:
        return Trained()
    window, size = int(match[1]), int(match[3])
    own = (int(match[2] or window),) * 2
    maps = [size // 4 // 2**stage for stage in range(stages)]
    return Trained(int(match[4] or size), (own,) * stages, tuple(min(window, side) for side in maps))


def told_by_config(path: Path, stages: int) -> Trained:
    """Windows and image size from ``config.json`` beside a file of Transformers or timm."""
    file = (path if path.is_dir() else path.parent) / CONFIG
    try:
        config: Any = json.loads(file.read_text())
    except (OSError, ValueError):
        return Trained()
    if not isinstance(config, dict):
        return Trained()
    if str(config.get('model_type')) in ('swin', 'swinv2'):
        side, size = config.get('window_size', 7), config.get('image_size', 224)
        windows = ((side, side),) * stages if isinstance(side, int) else ()
        pretrained = tuple(config.get('pretrained_window_sizes') or ())
        return Trained(size if isinstance(size, int) else 0, windows, pretrained if any(pretrained) else ())
    shape = (config.get('pretrained_cfg') or {}).get('input_size') or (0,)
    return Trained(image_size=int(shape[-1])).or_else(told_by_name(str(config.get('architecture')), stages))
