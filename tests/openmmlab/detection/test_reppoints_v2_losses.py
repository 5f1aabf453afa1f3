"""Each loss of RepPoints V2 compared with loops over boxes and cells."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip('mmdet')

from mmdet.models.losses import GaussianFocalLoss, QualityFocalLoss, SmoothL1Loss
from mmengine.structures import InstanceData

from swin_backbone.openmmlab.detection.reppoints_v2.assigners import Matches
from swin_backbone.openmmlab.detection.reppoints_v2.head import RepPointsV2Head
from swin_backbone.openmmlab.detection.reppoints_v2.losses import PixelGIoULoss, SeparateFocalLoss, pixel_giou_loss
from swin_backbone.openmmlab.detection.reppoints_v2.targets import box_corner_targets, semantic_weights


def plain_giou_loss(a: list[float], b: list[float]) -> float:
    def length(low: float, high: float) -> float:
        return high - low + 1

    overlap = 1.0
    hull = 1.0
    for low, high in ((0, 2), (1, 3)):
        overlap *= max(length(max(a[low], b[low]), min(a[high], b[high])), 0)
        hull *= max(length(min(a[low], b[low]), max(a[high], b[high])), 0)
    areas = [length(box[0], box[2]) * length(box[1], box[3]) for box in (a, b)]
    union = sum(areas) - overlap + 1e-6
    return 1 - (overlap / union - (hull + 1e-6 - union) / (hull + 1e-6))


def unit_boxes(count: int) -> Tensor:
    corners = torch.rand(count, 2, 2) * 3
    return torch.cat((corners.amin(dim=1), corners.amax(dim=1)), dim=1)


def test_giou_loss_equals_loops() -> None:
    pred, target = unit_boxes(50), unit_boxes(50)
    pred[:10] = pred[:10, [2, 3, 0, 1]]  # corners may be in the wrong order
    pred[10:20] += 5
    plain = [plain_giou_loss(a, b) for a, b in zip(pred.tolist(), target.tolist(), strict=True)]
    torch.testing.assert_close(pixel_giou_loss(pred, target, reduction='none'), torch.tensor(plain))
    weight = torch.rand(50)
    expected = 2.0 * sum(p * w for p, w in zip(plain, weight.tolist(), strict=True)) / 7
    loss = PixelGIoULoss(loss_weight=2.0)
    torch.testing.assert_close(loss(pred, target, weight, avg_factor=7), torch.tensor(expected))
    torch.testing.assert_close(loss(pred, target, weight[:, None].expand(-1, 4), avg_factor=7), torch.tensor(expected))


def test_giou_loss_of_equal_boxes_and_of_none_is_zero() -> None:
    boxes = unit_boxes(5)
    assert PixelGIoULoss()(boxes, boxes, avg_factor=1).abs() < 1e-5
    nothing = torch.zeros(0, 4, requires_grad=True)
    loss = PixelGIoULoss()(nothing, torch.zeros(0, 4), avg_factor=1)
    loss.backward()
    assert loss == 0


def plain_separate_focal(pred: Tensor, target: Tensor, weight: Tensor) -> float:
    positive = negative = weights = count = 0.0
    for logit, is_object, w in zip(pred.tolist(), target.tolist(), weight.tolist(), strict=True):
        p = 1 / (1 + math.exp(-logit))
        if is_object:
            positive += -math.log(p) * (1 - p) ** 2 * w
            weights += w
            count += 1
        else:
            negative += -math.log(1 - p) * p**2
    return 0.1 * (0.25 * positive / weights + 0.75 * negative / count)


def test_separate_focal_loss_equals_loops() -> None:
    pred, weight = torch.randn(300) * 3, torch.rand(300) / 100
    target = torch.rand(300) < 0.2
    loss = SeparateFocalLoss(loss_weight=0.1)(pred, target, weight)
    torch.testing.assert_close(loss, torch.tensor(plain_separate_focal(pred, target, weight)))


@pytest.mark.parametrize('share', [0.0, 1.0])
def test_separate_focal_loss_supports_only_positives_or_negatives(share: float) -> None:
    pred = (torch.randn(50) * 100).requires_grad_()
    target = torch.full((50,), share > 0.5)
    loss = SeparateFocalLoss()(pred, target, target.float())
    loss.backward()
    assert loss.isfinite()
    assert pred.grad is not None
    assert pred.grad.isfinite().all()
    assert pred.grad.any()


def head(**attributes: Any) -> Any:
    """Create a stub of the head with losses and without layers."""
    return SimpleNamespace(num_classes=3, point_base_scale=4, point_strides=[8, 16], **attributes)


def matches(inds: Tensor, boxes: Tensor, labels: Tensor) -> Matches:
    owners = inds[inds > 0] - 1
    return Matches(inds, boxes[owners], labels[owners], avg_factor=int((inds > 0).sum()) + 1)


def test_class_loss_equals_loops() -> None:
    inds = torch.tensor([[0, 1, -1, 2, 0], [3, 0, 0, -1, 0]])
    gts, labels = torch.rand(3, 4) * 10, torch.tensor([2, 0, 1])
    gts[:, 2:] += gts[:, :2] + 1
    boxes = (gts[inds.clamp(min=1) - 1] + torch.randn(2, 5, 4)).requires_grad_()
    logits = torch.randn(2, 5, 3)
    given = matches(inds, gts, labels)
    loss = RepPointsV2Head._class_loss(head(loss_cls=QualityFocalLoss()), logits, boxes, given)

    total = 0.0
    for b in range(2):
        for n in range(5):
            for c in range(3):
                p = logits[b, n, c].sigmoid().item()
                quality = 0.0
                owner = int(inds[b, n]) - 1
                if owner >= 0 and c == labels[owner]:
                    quality = plain_iou(boxes[b, n].tolist(), gts[owner].tolist())
                if owner >= -1:
                    cross_entropy = -(quality * math.log(p) + (1 - quality) * math.log(1 - p))
                    total += abs(quality - p) ** 2 * cross_entropy
    torch.testing.assert_close(loss, torch.tensor(total / given.avg_factor))
    assert not loss.requires_grad  # the quality has no gradient to the boxes


def plain_iou(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    overlap = max(width, 0) * max(height, 0)
    return overlap / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap)


def test_box_loss_is_in_units_of_the_level() -> None:
    inds = torch.tensor([[0, 1, -1, 2], [3, 0, 0, 1]])
    strides = [8, 8, 16, 16]
    points = torch.tensor([[0.0, 0.0, stride] for stride in strides])
    gts = unit_boxes(3) * 30
    boxes = unit_boxes(8).view(2, 4, 4) * 30
    given = matches(inds, gts, torch.zeros(3, dtype=torch.long))
    loss = RepPointsV2Head._box_loss(head(), PixelGIoULoss(), boxes, points, given)
    total = 0.0
    for b in range(2):
        for n, stride in enumerate(strides):
            if inds[b, n] > 0:
                ours, target = boxes[b, n] / (4 * stride), gts[inds[b, n] - 1] / (4 * stride)
                total += plain_giou_loss(ours.tolist(), target.tolist())
    torch.testing.assert_close(loss, torch.tensor(total / given.avg_factor))


def test_corner_losses_equal_loops() -> None:
    points = torch.tensor([[j * 8.0, i * 8.0, 8.0] for i in range(4) for j in range(5)])
    valid = torch.ones(2, 20, dtype=torch.bool)
    valid[1, 15:] = False
    gts = [InstanceData(bboxes=torch.tensor([[1.0, 2.0, 30.0, 20.0], [9.0, 9.0, 17.0, 23.0]]))]
    gts.append(InstanceData(bboxes=torch.zeros(0, 4)))
    logits, offsets = torch.randn(2, 20, 2), torch.randn(2, 20, 4)
    parts = head(
        loss_heatmap=GaussianFocalLoss(alpha=2.0, gamma=4.0, loss_weight=0.25),
        loss_offset=SmoothL1Loss(beta=1 / 9),
        train_cfg=dict(heatmap=dict(gaussian_iou=0.7)),
    )
    losses = RepPointsV2Head._corner_losses(parts, logits, offsets, points, valid, gts)

    heat_loss = offset_loss = 0.0
    for kind in range(2):
        heat_sum = offset_sum = count = 0.0
        for b in range(2):
            target = box_corner_targets(points[valid[b]], gts[b].bboxes, 0.7)[kind]
            count += max(int(target.positive.sum()), 1)
            for n, (heat, positive) in enumerate(zip(target.heat.tolist(), target.positive.tolist(), strict=True)):
                p = logits[b, n, kind].sigmoid().item()
                if positive:
                    heat_sum += -math.log(p) * (1 - p) ** 2
                    for axis in range(2):
                        away = abs(offsets[b, n, 2 * kind + axis] - target.offset[n, axis]).item()
                        offset_sum += away - 1 / 18 if away > 1 / 9 else away**2 * 9 / 2
                else:
                    heat_sum += -math.log(1 - p) * p**2 * (1 - heat) ** 4
        heat_loss += 0.25 * heat_sum / count / 2
        offset_loss += offset_sum / count / 2
    torch.testing.assert_close(losses['loss_heatmap'], torch.tensor(heat_loss))
    torch.testing.assert_close(losses['loss_offset'], torch.tensor(offset_loss))


def test_semantic_loss_equals_loops() -> None:
    logits = [torch.randn(2, 3, 4, 6), torch.randn(2, 3, 2, 3)]
    boxes = torch.tensor([[1.0, 2.0, 40.0, 20.0], [9.0, 9.0, 17.0, 23.0], [20.0, 10.0, 30.0, 30.0]])
    gts = [
        InstanceData(bboxes=boxes, labels=torch.tensor([1, 1, 0])),
        InstanceData(bboxes=boxes[:0], labels=torch.zeros(0, dtype=torch.long)),
    ]
    parts = head(loss_sem=SeparateFocalLoss(loss_weight=0.1))
    loss = RepPointsV2Head._semantic_loss(parts, logits, gts)

    drawn = torch.stack([semantic_weights(gt.bboxes, gt.labels, 3, (4, 6), 8) for gt in gts])
    weight = torch.cat((drawn.flatten(), drawn[..., ::2, ::2].flatten()))
    plain = plain_separate_focal(torch.cat([level.flatten() for level in logits]), weight > 0, weight)
    torch.testing.assert_close(loss, torch.tensor(plain))
