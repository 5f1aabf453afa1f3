"""Detections from the head's outputs, compared with loops over cells and boxes."""

from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip('mmdet')

from mmdet.structures.bbox import bbox_overlaps

from swin_backbone.openmmlab.detection.reppoints_v2.corner import snap_corners
from swin_backbone.openmmlab.detection.reppoints_v2.head import points_to_boxes
from tests.openmmlab.detection.reppoints_v2_model import build, model_config, random_outputs


def test_points_to_boxes_equals_loops() -> None:
    offsets = torch.randn(2, 3, 18)
    points = torch.tensor([[0.0, 8.0, 8.0, 8.0], [32.0, 16.0, 16.0, 16.0], [0.0, 0.0, 128.0, 128.0]])
    boxes = points_to_boxes(offsets, points)
    for b in range(2):
        for n, (x, y, stride, _) in enumerate(points.tolist()):
            y1, x1, y2, x2 = offsets[b, n, :4].tolist()
            plain = [x + x1 * stride, y + y1 * stride, x + x2 * stride, y + y2 * stride]
            torch.testing.assert_close(boxes[b, n], torch.tensor(plain))


def plain_detections(outputs: list[list[Tensor]], i: int, size: tuple[int, int], cfg: dict[str, Any]) -> list[Any]:
    """Compute the candidates of one image before NMS."""
    scores, _, refined, heat, offsets, _ = outputs
    strides = [8, 16, 32, 64, 128]
    candidates = []
    for level, stride in enumerate(strides):
        cells = []
        height, width = scores[level].shape[-2:]
        for row in range(height):
            for column in range(width):
                probabilities = scores[level][i, :, row, column].sigmoid()
                cells.append((probabilities.max().item(), row, column, probabilities.tolist()))
        cells.sort(key=lambda cell: -cell[0])
        for _, row, column, probabilities in cells[: cfg['nms_pre']]:
            y1, x1, y2, x2 = refined[level][i, :4, row, column].tolist()
            box = [column * stride + x1 * stride, row * stride + y1 * stride]
            box += [column * stride + x2 * stride, row * stride + y2 * stride]
            box = [min(max(value, 0), size[1 - axis % 2]) for axis, value in enumerate(box)]
            if level > 0:
                source = 0 if level < 3 else 1
                maps = heat[source][i], offsets[source][i]
                first = snap_corners(torch.tensor([box[:2]]), maps[0][0], maps[1][:2], strides[source])[0].tolist()
                last = snap_corners(torch.tensor([box[2:]]), maps[0][1], maps[1][2:], strides[source])[0].tolist()
                box = [min(max(value, 0), size[1 - axis % 2]) for axis, value in enumerate(first + last)]
            for label, probability in enumerate(probabilities):
                if probability > cfg['score_thr']:
                    candidates.append((box, probability, label))
    return candidates


def plain_nms(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float) -> list[int]:
    """Return the indices of boxes that NMS keeps, best first."""
    kept: list[int] = []
    for n in scores.argsort(descending=True).tolist():
        ious = bbox_overlaps(boxes[n][None], boxes[kept])[0][labels[kept] == labels[n]]
        if not (ious > threshold).any():
            kept.append(n)
    return kept


def test_predictions_equal_loops() -> None:
    head = build(model_config()).bbox_head
    head.test_cfg.update(nms_pre=7, score_thr=0.3, max_per_img=40)
    outputs = random_outputs([(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)], images=2)
    metas = [dict(img_shape=(60, 96), scale_factor=(0.5, 0.25)), dict(img_shape=(64, 80), scale_factor=(0.5, 0.25))]
    results = head.predict_by_feat(*outputs, batch_img_metas=metas, rescale=True)
    for i, (meta, found) in enumerate(zip(metas, results, strict=True)):
        candidates = plain_detections(outputs, i, meta['img_shape'], head.test_cfg)
        candidates = [c for c in candidates if c[0][2] > c[0][0] and c[0][3] > c[0][1]]
        boxes = torch.tensor([c[0] for c in candidates]) * torch.tensor([2.0, 4.0, 2.0, 4.0])
        scores, labels = torch.tensor([c[1] for c in candidates]), torch.tensor([c[2] for c in candidates])
        kept = plain_nms(boxes, scores, labels, 0.6)[:40]
        assert len(kept) > 10
        torch.testing.assert_close(found.scores, scores[kept])
        torch.testing.assert_close(found.bboxes, boxes[kept])
        assert torch.equal(found.labels, labels[kept])
