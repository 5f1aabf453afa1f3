"""The embedded data set: pictures of overlapping, textured shapes, made from a seed in a few seconds.

One root serves detection and segmentation, see :mod:`swin_backbone.datasets.generated`. Shapes are classes of both
tasks; in the semantic maps the background counts as the classes sky, water and ground, and scribbles are 0, 'other'.
"""

from pathlib import Path

import numpy as np

from swin_backbone.datasets.generated import (
    GeneratedSummary,
    Generator,
    Picture,
    SplitCounts,
    read_generated,
    write_generated,
)
from swin_backbone.datasets.shapes_render import render
from swin_backbone.datasets.shapes_spec import (
    CLASSES,
    PALETTE,
    SEGMENTATION_CLASSES,
    SEGMENTATION_PALETTE,
    STUFF_CLASSES,
    ShapesSpec,
)

__all__ = [
    'CLASSES',
    'PALETTE',
    'SEGMENTATION_CLASSES',
    'SEGMENTATION_PALETTE',
    'STUFF_CLASSES',
    'GeneratedSummary',
    'ShapesSpec',
    'SplitCounts',
    'read_shapes',
    'write_shapes',
]


def write_shapes(root: Path, spec: ShapesSpec | None = None) -> GeneratedSummary:
    """Make the data set under ``root``, or leave it as it is where ``root`` holds the same one already.

    Raises:
        InputError: ``root`` holds anything else, cannot be written, or Pillow is missing.
    """
    return write_generated(root, SHAPES, spec or ShapesSpec())


def read_shapes(root: Path, spec: ShapesSpec | None = None) -> GeneratedSummary | None:
    """The summary of the data set that ``root`` holds, or None where ``root`` is empty or does not exist.

    Raises:
        InputError: ``root`` holds another data set, other files, or lacks files of this one.
    """
    return read_generated(root, SHAPES, spec or ShapesSpec())


def _render(rng: np.random.Generator, spec: ShapesSpec, index: int) -> Picture:
    return render(rng, spec, crowd=_holds_crowd(index, spec.crowd_share))


def _holds_crowd(index: int, share: float) -> bool:
    """Spreads the crowds evenly, so that a split of ``1 / share`` pictures or more holds one for certain."""
    return int((index + 1) * share) > int(index * share)


SHAPES = Generator('shapes', 1, CLASSES, 'shape', _render)
