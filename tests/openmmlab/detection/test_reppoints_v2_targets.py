"""Heat maps and semantic maps compared with loops over cells."""

import math

import pytest
import torch
from torch import Tensor

pytest.importorskip('mmdet')

from mmdet.models.utils import gaussian_radius

from swin_backbone.openmmlab.detection.reppoints_v2.targets import (
    box_corner_targets,
    corner_radius,
    corner_targets,
    semantic_weights,
)

LEVELS = {8: (12, 16), 16: (6, 8), 32: (3, 4), 64: (2, 2), 128: (1, 1)}


def points() -> Tensor:
    cells = [(j * s, i * s, s) for s, (h, w) in LEVELS.items() for i in range(h) for j in range(w)]
    return torch.tensor(cells, dtype=torch.float)


def random_boxes(count: int) -> Tensor:
    corners = torch.rand(count, 2, 2) * torch.tensor([128.0, 96.0])
    return torch.cat((corners.amin(dim=1), corners.amax(dim=1) + 1), dim=1)


def test_corner_radius_equals_mmdetection() -> None:
    sizes = torch.tensor([[10.0, 20.0], [100.0, 3.0], [64.0, 64.0], [1.0, 1.0]])
    plain = [gaussian_radius((height, width), 0.7) for width, height in sizes.tolist()]
    torch.testing.assert_close(corner_radius(sizes, 0.7), torch.tensor(plain))


def plain_targets(cells: Tensor, corners: Tensor, radius: Tensor) -> tuple[list[float], dict[int, list[float]]]:
    """Compute the heat of every cell, and the offsets of the cells nearest to a corner."""
    heat, owner = [0.0] * len(cells), {}
    for (x, y), r in zip(corners.tolist(), radius.tolist(), strict=True):
        sigma = (2 * r + 1) / 6
        for stride in LEVELS:
            nearest, least = None, math.inf
            for n, (px, py, level) in enumerate(cells.tolist()):
                if level != stride:
                    continue
                away = math.hypot(px - x, py - y)
                if away < r:
                    heat[n] = max(heat[n], math.exp(-(away**2) / (2 * sigma**2)))
                if away < least:
                    nearest, least = n, away
            px, py, _ = cells[nearest].tolist()
            if nearest not in owner or least < owner[nearest][0]:
                owner[nearest] = (least, [(x - px) / stride, (y - py) / stride])
    for n in owner:
        heat[n] = 1.0
    return heat, {n: offset for n, (_, offset) in owner.items()}


def test_corner_targets_equal_loops() -> None:
    cells, boxes = points(), random_boxes(14)
    radius = corner_radius(boxes[:, 2:] - boxes[:, :2], 0.7)
    for ours, corners in zip(box_corner_targets(cells, boxes, 0.7), (boxes[:, :2], boxes[:, 2:]), strict=True):
        heat, offsets = plain_targets(cells, corners, radius)
        torch.testing.assert_close(ours.heat, torch.tensor(heat))
        assert ours.positive.nonzero().squeeze(1).tolist() == sorted(offsets)
        plain = torch.tensor([offsets[n] for n in sorted(offsets)])
        torch.testing.assert_close(ours.offset[ours.positive], plain)
        assert ((ours.heat > 0) & (ours.heat < 1)).any()


def test_every_object_is_drawn_on_every_level() -> None:
    target = corner_targets(points(), torch.tensor([[40.0, 40.0]]), torch.tensor([3.0]))
    strides = points()[target.positive, 2]
    assert strides.tolist() == [8, 16, 32, 64, 128]


def test_corner_targets_without_objects_are_zero() -> None:
    for target in box_corner_targets(points(), torch.zeros(0, 4), 0.7):
        assert target.heat.sum() == 0
        assert not target.positive.any()


def plain_semantic(boxes: Tensor, labels: Tensor, classes: int, size: tuple[int, int], stride: int) -> Tensor:
    drawn = torch.zeros(classes, *size)
    for c in range(classes):
        for i in range(size[0]):
            for j in range(size[1]):
                smallest = math.inf
                for (x1, y1, x2, y2), label in zip(boxes.tolist(), labels.tolist(), strict=True):
                    inside = int(x1 / stride) <= j <= int(x2 / stride) and int(y1 / stride) <= i <= int(y2 / stride)
                    if label == c and inside:
                        smallest = min(smallest, (x2 - x1) * (y2 - y1))
                drawn[c, i, j] = 0 if smallest == math.inf else 1 / smallest
    return drawn


def test_semantic_map_equals_loops() -> None:
    boxes, labels = random_boxes(12), torch.randint(3, (12,))
    ours = semantic_weights(boxes, labels, 3, (12, 16), 8)
    torch.testing.assert_close(ours, plain_semantic(boxes, labels, 3, (12, 16), 8))


def test_semantic_map_clips_boxes() -> None:
    boxes = torch.tensor([[-9.0, 90.0, 200.0, 96.0]])
    drawn = semantic_weights(boxes, torch.tensor([1]), 2, (12, 16), 8)
    assert drawn[0].sum() == 0
    assert drawn[1].nonzero()[:, 0].unique().tolist() == [11]
    assert (drawn[1, 11] == 1 / (209 * 6)).all()


def test_weight_of_a_thin_box_is_limited() -> None:
    boxes = torch.tensor([[8.0, 8.0, 8.0, 40.0]])
    assert semantic_weights(boxes, torch.tensor([0]), 1, (12, 16), 8).max() == 1


def test_semantic_map_without_objects_is_zero() -> None:
    drawn = semantic_weights(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), 2, (3, 4), 8)
    assert drawn.shape == (2, 3, 4)
    assert drawn.sum() == 0
