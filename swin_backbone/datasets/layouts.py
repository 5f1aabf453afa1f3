"""The folder layouts of COCO 2017 and ADE20K (SceneParse150), and COCO's ways of writing a mask down.

Both layouts fit under one root: COCO keeps ``train2017/``, ``val2017/`` and JSON files in ``annotations/``, ADE20K
keeps ``images/`` and folders of PNGs in ``annotations/``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]
Point = tuple[int, int]


@dataclass(frozen=True)
class Split:
    """Where one split lies under the root, in both layouts.

    Attributes:
        coco_images: folder of the pictures.
        coco_annotations: JSON file of the instances.
        ade_images: folder of the same pictures.
        ade_annotations: folder of the index PNGs.
    """

    coco_images: str
    coco_annotations: str
    ade_images: str
    ade_annotations: str


TRAIN = Split('train2017', 'annotations/instances_train2017.json', 'images/training', 'annotations/training')
VAL = Split('val2017', 'annotations/instances_val2017.json', 'images/validation', 'annotations/validation')


def mask_to_polygons(mask: BoolArray) -> list[list[int]] | None:
    """Outlines of a mask along the edges of its pixels.

    Args:
        mask: [H, W], not empty.

    Returns:
        One closed outline ``[x0, y0, x1, y1, ...]`` for each piece (pixels that touch at a corner only are two pieces),
        or None for a mask with a hole, which COCO's polygons cannot say.
    """
    outlines = list(_outlines(mask))
    if any(_signed_area(outline) < 0 for outline in outlines):
        return None
    return [[number for point in outline for number in point] for outline in outlines]


def mask_to_rle(mask: BoolArray) -> dict[str, list[int]]:
    """Uncompressed run lengths down the columns, the first run counting pixels outside of the mask [H, W]."""
    flat = np.concatenate([[False], mask.ravel(order='F')])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], changes, [mask.size]]))
    return {'size': list(mask.shape), 'counts': counts.tolist()}


def coco_annotation(mask: BoolArray, crowd: bool, **ids: int) -> dict[str, Any]:
    """COCO's record of one instance: a polygon where the mask has no hole, else, and for every crowd, run lengths.

    Args:
        mask: the visible pixels, [H, W], not empty.
        ids: ``id``, ``image_id`` and ``category_id``.
    """
    polygons = None if crowd else mask_to_polygons(mask)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return {
        **ids,
        'iscrowd': int(crowd),
        'area': int(mask.sum()),
        'bbox': [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
        'segmentation': mask_to_rle(mask) if polygons is None else polygons,
    }


def _outlines(mask: BoolArray) -> Iterator[list[Point]]:
    """Corners of the closed borders, the mask on their right hand (with y downwards): pieces clockwise, holes not."""
    edges = _directed_edges(mask)
    while edges:
        start = min(edges)
        corners, point, step = [], start, (0, 0)
        while point in edges:
            steps = edges[point]
            # Where two corners of the mask touch, a turn to the right stays on the same piece.
            turn = (-step[1], step[0])
            following = turn if turn in steps else steps[0]
            steps.remove(following)
            if not steps:
                del edges[point]
            if following != step:
                corners.append(point)
            point, step = (point[0] + following[0], point[1] + following[1]), following
            if point == start:
                break
        yield corners


def _directed_edges(mask: BoolArray) -> dict[Point, list[Point]]:
    """For each corner (x, y) of a pixel on a border, the unit steps that follow the border from it."""
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    sides: tuple[tuple[BoolArray, Point, Point], ...] = (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),
        (padded[1:-1, 2:], (1, 0), (0, 1)),
        (padded[2:, 1:-1], (1, 1), (-1, 0)),
        (padded[1:-1, :-2], (0, 1), (0, -1)),
    )
    edges: dict[Point, list[Point]] = {}
    for neighbour, corner, step in sides:
        for y, x in np.argwhere(inside & ~neighbour).tolist():
            edges.setdefault((x + corner[0], y + corner[1]), []).append(step)
    return edges


def _signed_area(outline: list[Point]) -> int:
    following = outline[1:] + outline[:1]
    return sum(x * y1 - x1 * y for (x, y), (x1, y1) in zip(outline, following, strict=True))
