"""The assigners compared with loops over objects and locations."""

import math

import pytest
import torch
from torch import Tensor

pytest.importorskip('mmdet')

from mmdet.models.task_modules.assigners import ATSSAssigner
from mmengine.structures import InstanceData

from swin_backbone.openmmlab.detection.reppoints_v2 import assigners
from swin_backbone.openmmlab.detection.reppoints_v2.assigners import ATSSAssignerV2, PointAssignerV2, match


def grid(sizes: dict[int, tuple[int, int]]) -> Tensor:
    """Return the points (x, y, stride) of maps, given as {stride: (height, width)}."""
    return torch.tensor(
        [
            [float(j * stride), float(i * stride), float(stride)]
            for stride, (height, width) in sizes.items()
            for i in range(height)
            for j in range(width)
        ]
    )


def objects(count: int, size: float) -> InstanceData:
    centres, halves = torch.rand(count, 2) * size, torch.rand(count, 2) ** 3 * size / 2 + 1
    boxes = torch.cat((centres - halves, centres + halves), dim=1)
    return InstanceData(bboxes=boxes, labels=torch.randint(7, (count,)))


def plain_points(points: list[list[float]], boxes: list[list[float]], pos_num: int) -> list[int]:
    levels = [int(math.log2(stride)) for _, _, stride in points]
    owners, distances = [0] * len(points), [math.inf] * len(points)
    for number, (x1, y1, x2, y2) in enumerate(boxes, start=1):
        width, height = x2 - x1, y2 - y1
        level = int((math.log2(width / 4) + math.log2(height / 4)) / 2)
        level = min(max(level, min(levels)), max(levels))
        candidates = []
        for n, (x, y, _) in enumerate(points):
            if levels[n] == level:
                away = math.hypot((x - (x1 + x2) / 2) / width, (y - (y1 + y2) / 2) / height)
                candidates.append((away, n))
        for away, n in sorted(candidates)[:pos_num]:
            if away < distances[n]:
                owners[n], distances[n] = number, away
    return owners


@pytest.mark.parametrize('pos_num', [1, 3])
def test_point_assigner_equals_loops(pos_num: int) -> None:
    points = grid({8: (16, 20), 16: (8, 10), 32: (4, 5), 64: (2, 3), 128: (1, 2)})
    gt = objects(60, 150)
    result = PointAssignerV2(pos_num=pos_num).assign(InstanceData(priors=points), gt)
    assert result.gt_inds.tolist() == plain_points(points.tolist(), gt.bboxes.tolist(), pos_num)
    for owner, label in zip(result.gt_inds.tolist(), result.labels.tolist(), strict=True):
        assert label == (gt.labels[owner - 1] if owner else -1)


def test_location_is_assigned_to_the_nearest_object() -> None:
    boxes = torch.tensor([[0.0, 0.0, 30.0, 30.0], [2.0, 2.0, 30.0, 30.0], [1.0, 1.0, 30.0, 30.0]])
    gt = InstanceData(bboxes=boxes, labels=torch.tensor([4, 5, 6]))
    result = PointAssignerV2().assign(InstanceData(priors=grid({8: (4, 4)})), gt)
    assert result.gt_inds.nonzero().tolist() == [[10]]
    assert (result.gt_inds[10], result.labels[10]) == (2, 5)


def test_assigners_support_no_objects() -> None:
    gt = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    points = InstanceData(priors=grid({8: (4, 4)}))
    assert PointAssignerV2().assign(points, gt).gt_inds.tolist() == [0] * 16
    boxes = InstanceData(priors=torch.rand(20, 4))
    assert ATSSAssignerV2(topk=9).assign(boxes, [16, 4], gt).gt_inds.tolist() == [0] * 20


def predicted_boxes(points: Tensor) -> Tensor:
    centres = points[:, :2] + torch.randn(len(points), 2) * points[:, 2:3] / 2
    halves = points[:, 2:3] * (torch.rand(len(points), 2) * 3 + 1)
    return torch.cat((centres - halves, centres + halves), dim=1)


def iou(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    overlap = max(width, 0) * max(height, 0)
    return overlap / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap)


def plain_atss(priors: list[list[float]], levels: list[list[int]], boxes: list[list[float]], topk: int) -> list[int]:
    """Compute ATSS with loops; ``levels`` are the candidates of each level, possibly repeated."""
    owners, overlaps = [0] * len(priors), [-1.0] * len(priors)
    for number, box in enumerate(boxes, start=1):
        middle = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]
        away = [math.dist([(p[0] + p[2]) / 2, (p[1] + p[3]) / 2], middle) for p in priors]
        chosen = [n for level in levels for n in sorted(level, key=lambda n: away[n])[:topk]]
        ious = [iou(priors[n], box) for n in chosen]
        mean = sum(ious) / len(ious)
        threshold = mean + (sum((value - mean) ** 2 for value in ious) / (len(ious) - 1)) ** 0.5
        for n, value in zip(chosen, ious, strict=True):
            x, y = (priors[n][0] + priors[n][2]) / 2, (priors[n][1] + priors[n][3]) / 2
            inside = min(x - box[0], y - box[1], box[2] - x, box[3] - y) > 0.01
            if value >= threshold and inside and value > overlaps[n]:
                owners[n], overlaps[n] = number, value
    return owners


def test_atss_repeats_locations_of_small_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def recording(count: int, minimum: int) -> Tensor:
        drawn.append(original(count, minimum))
        return drawn[-1]

    original = assigners._at_least
    monkeypatch.setattr(assigners, '_at_least', recording)
    points = grid({8: (8, 12), 16: (4, 6), 32: (2, 3), 64: (1, 2)})
    sizes = [96, 24, 6, 2]
    priors, gt = predicted_boxes(points), objects(25, 80)
    result = ATSSAssignerV2(topk=9).assign(InstanceData(priors=priors), sizes, gt)

    starts = [0, 96, 120, 126]
    levels = [[start + n for n in source.tolist()] for start, source in zip(starts, drawn, strict=True)]
    assert [len(level) for level in levels] == [96, 24, 9, 9]
    assert result.gt_inds.tolist() == plain_atss(priors.tolist(), levels, gt.bboxes.tolist(), 9)
    assert (result.gt_inds > 0).sum() > 10


def test_atss_equals_mmdetection_on_large_levels() -> None:
    points = grid({8: (8, 12), 16: (4, 6), 32: (3, 3)})
    priors, gt = InstanceData(priors=predicted_boxes(points)), objects(25, 80)
    ours = ATSSAssignerV2(topk=9).assign(priors, [96, 24, 9], gt)
    stock = ATSSAssigner(topk=9).assign(priors, [96, 24, 9], gt)
    assert torch.equal(ours.gt_inds, stock.gt_inds)
    assert torch.equal(ours.labels, stock.labels)
    assert torch.equal(ours.max_overlaps, stock.max_overlaps)


@pytest.mark.parametrize(('count', 'minimum'), [(4, 9), (8, 9), (1, 9), (9, 9), (12, 9)])
def test_at_least_appends_random_repetitions(count: int, minimum: int) -> None:
    numbers = assigners._at_least(count, minimum).tolist()
    assert numbers[:count] == list(range(count))
    assert len(numbers) == max(count, minimum)
    assert set(numbers) == set(range(count))


def test_match_ignores_locations_outside_an_image() -> None:
    points = torch.cat((grid({8: (4, 4), 16: (2, 2)}), torch.zeros(20, 1)), dim=1)
    valid = torch.ones(2, 20, dtype=torch.bool)
    valid[1, [3, 7, 11, 15, 17, 19]] = False
    gts = [objects(3, 30), InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))]
    matches = match(PointAssignerV2(), points.expand(2, -1, -1), valid, [16, 4], gts)
    expected = plain_points(points[:, :3].tolist(), gts[0].bboxes.tolist(), 1)
    assert matches.gt_inds[0].tolist() == expected
    assert matches.gt_inds[1].tolist() == [0 if ok else -1 for ok in valid[1]]
    owners = [owner - 1 for owner in expected if owner]
    assert torch.equal(matches.boxes, gts[0].bboxes[owners])
    assert torch.equal(matches.labels, gts[0].labels[owners])
    assert matches.avg_factor == len(owners) + 1  # an image without objects counts as one


def test_match_passes_ignored_boxes() -> None:
    priors = predicted_boxes(grid({8: (8, 8)}))[None]
    gt = InstanceData(bboxes=torch.tensor([[4.0, 4.0, 30.0, 30.0]]), labels=torch.tensor([1]))
    crowd = InstanceData(bboxes=torch.tensor([[30.0, 30.0, 70.0, 70.0]]))
    valid = torch.ones(1, 64, dtype=torch.bool)
    kept = match(ATSSAssignerV2(topk=9), priors, valid, [64], [gt], [crowd])
    left_out = match(ATSSAssignerV2(topk=9, ignore_iof_thr=0.5), priors, valid, [64], [gt], [crowd])
    assert (kept.gt_inds == -1).sum() == 0
    assert (left_out.gt_inds == -1).sum() > 5
