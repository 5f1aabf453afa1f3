"""Training targets of RepPoints V2: corner heat maps and the semantic map."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Weights are 1 / area; the minimum keeps boxes below one square pixel from dominating.
MIN_AREA = 1.0


def corner_radius(sizes: Tensor, min_overlap: float) -> Tensor:
    """Compute how far both corners may move until the IoU with the original box is ``min_overlap``.

    As in CornerNet's code, it is the smallest root of the cases 'one corner in, one out', 'both in' and 'both out',
    with the denominators of that code.

    Args:
        sizes: ``[G, 2]``, width and height in pixels.
        min_overlap: the IoU.

    Returns:
        ``[G]`` in pixels.
    """
    perimeter, area = sizes.sum(dim=1), sizes.prod(dim=1)

    def root(a: float, b: Tensor, c: Tensor, sign: int) -> Tensor:
        return (b + sign * (b**2 - 4 * a * c).sqrt()) / (2 * a)

    one_in = root(1, perimeter, area * (1 - min_overlap) / (1 + min_overlap), -1)
    both_in = root(4, 2 * perimeter, (1 - min_overlap) * area, -1)
    both_out = root(4 * min_overlap, -2 * min_overlap * perimeter, (min_overlap - 1) * area, 1)
    return torch.stack((one_in, both_in, both_out)).amin(dim=0)


@dataclass
class CornerTargets:
    """Targets of one kind of corner at N locations.

    Attributes:
        heat: ``[N]``, 1 at the location nearest to a corner, a Gaussian around it, 0 elsewhere.
        offset: ``[N, 2]``, (x, y) from the location to its corner in strides; used where ``positive``.
        positive: ``[N]``, whether the location is the nearest to a corner.
    """

    heat: Tensor
    offset: Tensor
    positive: Tensor


def corner_targets(points: Tensor, corners: Tensor, radius: Tensor) -> CornerTargets:
    """Compute the heat map and offsets of one kind of corner; every object is drawn on every level.

    Args:
        points: ``[N, 3 or more]``: (x, y, stride, ...) in pixels.
        corners: ``[G, 2]``: (x, y) in pixels.
        radius: ``[G]``: radius of the Gaussian of a corner in pixels; its deviation is ``(2 * radius + 1) / 6``.
    """
    heat = points.new_zeros(len(points))
    offset = points.new_zeros(len(points), 2)
    positive = points.new_zeros(len(points), dtype=torch.bool)
    if len(corners) == 0:
        return CornerTargets(heat, offset, positive)
    deviation = (2 * radius + 1) / 6
    for stride in points[:, 2].unique():
        level = (points[:, 2] == stride).nonzero().squeeze(1)
        distance = (points[level, None, :2] - corners).norm(dim=2)
        gaussian = (-(distance**2) / (2 * deviation**2)).exp()
        heat[level] = gaussian.masked_fill(distance >= radius, 0).amax(dim=1)
        # If several corners have the same nearest location, the closest of them determines the offset.
        nearest = distance.min(dim=0)
        claims = torch.full_like(distance, torch.inf).scatter(0, nearest.indices[None], nearest.values[None])
        owned, owner = claims.min(dim=1)
        chosen = level[owned.isfinite()]
        offset[chosen] = (corners[owner[owned.isfinite()]] - points[chosen, :2]) / stride
        positive[chosen] = True
    heat[positive] = 1
    return CornerTargets(heat, offset, positive)


def box_corner_targets(points: Tensor, boxes: Tensor, min_overlap: float) -> tuple[CornerTargets, CornerTargets]:
    """Compute :func:`corner_targets` of the top-left and of the bottom-right corners of boxes ``[G, 4]``."""
    radius = corner_radius(boxes[:, 2:] - boxes[:, :2], min_overlap)
    return corner_targets(points, boxes[:, :2], radius), corner_targets(points, boxes[:, 2:], radius)


def semantic_weights(boxes: Tensor, labels: Tensor, num_classes: int, size: Sequence[int], stride: int) -> Tensor:
    """Draw the semantic map of one image: filled boxes, one map per class, small objects on top of large ones.

    A box fills all cells from that of its first pixel to that of its last pixel.

    Args:
        boxes: ``[G, 4]``, (x1, y1, x2, y2) in pixels.
        labels: ``[G]``.
        num_classes: number of classes.
        size: rows and columns of cells.
        stride: pixels between cells.

    Returns:
        ``[num_classes, *size]``: 1 / area in square pixels of the object that is drawn there, 0 without an object.
    """
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1).clamp(min=MIN_AREA)
    order = areas.argsort(descending=True)
    cells = (boxes / stride).long().clamp(min=0)
    drawn = boxes.new_zeros(num_classes, *size)
    for (left, top, right, bottom), label, area in zip(
        cells[order].tolist(), labels[order].tolist(), areas[order].tolist(), strict=True
    ):
        drawn[label, top : bottom + 1, left : right + 1] = 1 / area
    return drawn
