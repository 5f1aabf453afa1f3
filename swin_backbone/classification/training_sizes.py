"""Window and image sizes that a classifier was trained with, which its weights may not determine."""

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
"""Windows and image sizes in names of files and repositories: of pre-training, and optionally of fine-tuning."""

CONFIG = 'config.json'
"""Config file that Transformers and timm store next to their weights."""

LAST_WINDOW = 12
"""The largest window that is as large as the last map in a published network; larger ones are as large as the third."""


@dataclass(frozen=True)
class Trained:
    """Sizes that a classifier was trained with; 0 and () if unknown.

    Attributes:
        image_size: side of the images in pixels.
        windows: rows and columns of a window per stage.
        pretrained: V2: side of the window per stage that the position bias was trained with; zeros for ``windows``.
    """

    image_size: int = 0
    windows: tuple[Window, ...] = ()
    pretrained: tuple[int, ...] = ()

    def or_else(self, other: 'Trained') -> 'Trained':
        """Return these sizes, with unknown ones taken from ``other``."""
        return Trained(
            self.image_size or other.image_size, self.windows or other.windows, self.pretrained or other.pretrained
        )


def find_training_sizes(state: State, anatomy: Anatomy, source: str, path: Path | None, given: Trained) -> Trained:
    """Find the sizes that a classifier was trained with, from the user, the weights, names and config files, in order.

    If nothing determines the image size, it is the size for which the last map is one window.

    Args:
        state: state dict of a classifier with native names.
        anatomy: its architecture.
        source: the source as given by the user.
        path: its file or folder, if it has one.
        given: values given by the user.

    Raises:
        InputError: if the windows are unknown.
    """
    stages = len(anatomy.depths)
    known = given.or_else(from_weights(state, anatomy)).or_else(from_name(source, stages))
    if path is not None:
        known = known.or_else(from_config_file(path, stages)).or_else(from_name(str(path), stages))
    if not known.windows:
        raise InputError(
            f'cannot determine the window size of {source}, because weights of Swin V2 do not depend on it: give '
            'window_size (--window-size).'
        )
    side = known.windows[-1][0]
    if len(set(known.windows)) == 1 and side > LAST_WINDOW:
        side //= 2
    return known.or_else(Trained(side * anatomy.patch_size * 2 ** (stages - 1), (), (0,) * stages))


def from_weights(state: State, anatomy: Anatomy) -> Trained:
    """Find windows and image size from tables, matrices and buffers."""
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
    """Find the side of the images from the absolute embedding or the number of windows in a mask; 0 without both."""
    tokens = 0
    if EMBEDDING in state:
        shape = state[EMBEDDING].shape
        tokens = shape[1] if len(shape) == 3 else math.prod(shape[2:])
    elif (mask := state.get(f'{fill(NATIVE_BLOCK, 0, 1)}attn_mask')) is not None and windows:
        tokens = len(mask) * math.prod(windows[0])
    return math.isqrt(tokens) * anatomy.patch_size


def from_name(name: str, stages: int) -> Trained:
    """Find windows and image size from a published name, or a name in the style of the authors or of libraries."""
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


def from_config_file(path: Path, stages: int) -> Trained:
    """Find windows and image size from the ``config.json`` of Transformers or timm."""
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
    return Trained(image_size=int(shape[-1])).or_else(from_name(str(config.get('architecture')), stages))
