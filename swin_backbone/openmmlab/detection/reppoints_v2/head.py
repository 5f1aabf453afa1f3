"""RepPoints V2's head: losses and predictions; its layers are in :mod:`.network`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from torch import Tensor, nn

from swin_backbone.openmmlab.detection.reppoints_v2.assigners import Matches, match
from swin_backbone.openmmlab.detection.reppoints_v2.corner import snap_boxes, snapping_level
from swin_backbone.openmmlab.detection.reppoints_v2.network import RepPointsV2Network
from swin_backbone.openmmlab.detection.reppoints_v2.targets import box_corner_targets, semantic_weights
from swin_backbone.registry import MODELS


@dataclass(frozen=True)
class Assignment:
    """Predicted boxes of the cells of a batch, and the objects assigned to them.

    Attributes:
        points: ``[N, 4]``, (x, y, stride, stride) of the cells of all levels.
        valid: ``[B, N]``, false for cells outside an image.
        first: ``[B, N, 4]``, boxes of the first points.
        refined: ``[B, N, 4]``, boxes of the refined points.
        first_match: objects assigned to the first boxes.
        refined_match: objects assigned to the refined boxes.
    """

    points: Tensor
    valid: Tensor
    first: Tensor
    refined: Tensor
    first_match: Matches
    refined_match: Matches


@MODELS.register_module()
class RepPointsV2Head(RepPointsV2Network):
    """Head of RepPoints V2; its arguments are those of :class:`RepPointsV2Network`.

    Training needs only boxes: the targets of corner heat maps and of the semantic map are drawn from them. In tests,
    the boxes of all levels except the finest are snapped to verified corners.
    """

    def loss_by_feat(
        self,
        cls_scores: Sequence[Tensor],
        pts_init: Sequence[Tensor],
        pts_refine: Sequence[Tensor],
        corner_scores: Sequence[Tensor],
        corner_offsets: Sequence[Tensor],
        sem_scores: Sequence[Tensor],
        batch_gt_instances: Sequence[InstanceData],
        batch_img_metas: Sequence[dict[str, Any]],
        batch_gt_instances_ignore: Sequence[InstanceData] | None = None,
    ) -> dict[str, Tensor]:
        """Compute the losses of the outputs of :meth:`forward`.

        Args:
            cls_scores: class logits per level.
            pts_init: first points per level.
            pts_refine: refined points per level.
            corner_scores: corner logits per level.
            corner_offsets: corner offsets per level.
            sem_scores: semantic logits per level.
            batch_gt_instances: ``bboxes`` ``[G, 4]`` in pixels and ``labels`` ``[G]`` of every image.
            batch_img_metas: ``pad_shape`` of every image; cells beyond it are ignored, except in the semantic map.
            batch_gt_instances_ignore: passed to the assigners.

        Returns:
            The six losses as scalars.
        """
        assigned = self._assign(pts_init, pts_refine, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore)
        maps = (cls_scores, corner_scores, corner_offsets, sem_scores)
        return self._losses(assigned, *maps, batch_gt_instances)

    def _assign(
        self,
        pts_init: Sequence[Tensor],
        pts_refine: Sequence[Tensor],
        objects: Sequence[InstanceData],
        metas: Sequence[dict[str, Any]],
        ignored: Sequence[InstanceData] | None,
    ) -> Assignment:
        """Assign objects to the boxes of both sets of points."""
        sizes, device = [level.shape[-2:] for level in pts_init], pts_init[0].device
        grids = self.prior_generator.grid_priors(sizes, device=device, with_stride=True)
        flags = [self.prior_generator.valid_flags(sizes, meta['pad_shape'], device=device) for meta in metas]
        points, valid = torch.cat(grids), torch.stack([torch.cat(image_flags) for image_flags in flags])
        first = points_to_boxes(flatten_levels(pts_init), points)
        refined = points_to_boxes(flatten_levels(pts_refine), points)
        targets = (valid, [len(grid) for grid in grids], objects, ignored)
        first_match = match(self.init_assigner, points.expand(len(valid), -1, -1), *targets)
        refined_match = match(self.refine_assigner, first.detach(), *targets)
        return Assignment(points, valid, first, refined, first_match, refined_match)

    def _losses(
        self,
        assigned: Assignment,
        cls_scores: Sequence[Tensor],
        corner_scores: Sequence[Tensor],
        corner_offsets: Sequence[Tensor],
        sem_scores: Sequence[Tensor],
        objects: Sequence[InstanceData],
    ) -> dict[str, Tensor]:
        """Compute the six losses of cells with assigned objects."""
        points, refined_match = assigned.points, assigned.refined_match
        corners = (flatten_levels(corner_scores), flatten_levels(corner_offsets))
        return {
            'loss_cls': self._class_loss(flatten_levels(cls_scores), assigned.refined, refined_match),
            'loss_pts_init': self._box_loss(self.loss_bbox_init, assigned.first, points, assigned.first_match),
            'loss_pts_refine': self._box_loss(self.loss_bbox_refine, assigned.refined, points, refined_match),
            **self._corner_losses(*corners, points, assigned.valid, objects),
            'loss_sem': self._semantic_loss(sem_scores, objects),
        }

    def _class_loss(self, logits: Tensor, boxes: Tensor, matches: Matches) -> Tensor:
        """Compute the loss of class logits ``[B, N, C]``; targets are the IoUs of refined boxes with their objects."""
        quality = boxes.new_zeros(boxes.shape[:2])
        quality[matches.positive] = bbox_overlaps(boxes.detach()[matches.positive], matches.boxes, is_aligned=True)
        labels = torch.full_like(matches.gt_inds, self.num_classes)
        labels[matches.positive] = matches.labels
        used = (matches.gt_inds >= 0).to(boxes)
        return self.loss_cls(
            logits.flatten(0, 1),
            (labels.flatten(), quality.flatten()),
            weight=used.flatten(),
            avg_factor=matches.avg_factor,
        )

    def _box_loss(self, loss: nn.Module, boxes: Tensor, points: Tensor, matches: Matches) -> Tensor:
        """Compute the loss of boxes ``[B, N, 4]`` of cells with objects, in units of their level."""
        unit = (self.point_base_scale * points[:, 2:3]).expand(len(boxes), -1, -1)[matches.positive]
        return loss(boxes[matches.positive] / unit, matches.boxes / unit, avg_factor=matches.avg_factor)

    def _corner_losses(
        self, logits: Tensor, offsets: Tensor, points: Tensor, valid: Tensor, objects: Sequence[InstanceData]
    ) -> dict[str, Tensor]:
        """Compute the losses of corner logits ``[B, N, 2]`` and offsets ``[B, N, 4]``, averaged over both corners."""
        overlap = self.train_cfg['heatmap']['gaussian_iou']
        targets = [box_corner_targets(points[v], gt.bboxes, overlap) for v, gt in zip(valid, objects, strict=True)]
        probabilities, offsets = logits[valid].sigmoid(), offsets[valid]
        losses = []
        for kind, images in enumerate(zip(*targets, strict=True)):
            count = sum(max(int(image.positive.sum()), 1) for image in images)
            heat = torch.cat([image.heat for image in images])
            positive = torch.cat([image.positive for image in images])
            target = torch.cat([image.offset for image in images])[positive]
            predicted = offsets[positive, 2 * kind : 2 * kind + 2]
            losses.append(
                (
                    self.loss_heatmap(probabilities[:, kind], heat, avg_factor=count),
                    self.loss_offset(predicted, target, avg_factor=count),
                )
            )
        (heat_tl, offset_tl), (heat_br, offset_br) = losses
        return {'loss_heatmap': (heat_tl + heat_br) / 2, 'loss_offset': (offset_tl + offset_br) / 2}

    def _semantic_loss(self, logits: Sequence[Tensor], objects: Sequence[InstanceData]) -> Tensor:
        """Compute the loss of semantic logits ``[B, C, H, W]`` of all levels; the target is drawn for the finest."""
        size, stride = logits[0].shape[-2:], self.point_strides[0]
        drawn = torch.stack([semantic_weights(gt.bboxes, gt.labels, self.num_classes, size, stride) for gt in objects])
        weight = torch.cat([F.interpolate(drawn, level.shape[-2:], mode='nearest').flatten() for level in logits])
        return self.loss_sem(torch.cat([level.float().flatten() for level in logits]), weight > 0, weight)

    def predict_by_feat(
        self,
        cls_scores: Sequence[Tensor],
        pts_init: Sequence[Tensor],
        pts_refine: Sequence[Tensor],
        corner_scores: Sequence[Tensor],
        corner_offsets: Sequence[Tensor],
        sem_scores: Sequence[Tensor],
        *extra: Sequence[Tensor],
        batch_img_metas: Sequence[dict[str, Any]],
        cfg: dict[str, Any] | None = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> list[InstanceData]:
        """Convert the outputs of :meth:`forward` to detections: ``bboxes`` in pixels, ``scores`` and ``labels``.

        Args:
            cls_scores: class logits per level.
            pts_init: not used.
            pts_refine: refined points per level.
            corner_scores: corner logits per level.
            corner_offsets: corner offsets per level.
            sem_scores: not used.
            *extra: other maps per level, for :meth:`_fields`.
            batch_img_metas: ``img_shape`` and, to rescale, ``scale_factor`` of every image.
            cfg: replaces ``test_cfg``.
            rescale: whether boxes are in pixels of the original image instead of the network's input.
            with_nms: whether to apply NMS.
        """
        cfg = self.test_cfg if cfg is None else cfg
        sizes = [scores.shape[-2:] for scores in cls_scores]
        points = self.prior_generator.grid_priors(sizes, device=cls_scores[0].device, with_stride=True)
        maps = (cls_scores, pts_refine, corner_scores, corner_offsets, *extra)
        results = []
        for i, meta in enumerate(batch_img_metas):
            image_maps = [[level[i].detach().float() for level in kind] for kind in maps]
            detections = self._detections(image_maps, points, meta['img_shape'], cfg)
            results.append(self._bbox_post_process(detections, cfg, rescale, with_nms, meta))
        return results

    def _detections(
        self, maps: list[list[Tensor]], points: list[Tensor], image_size: Sequence[int], cfg: dict[str, Any]
    ) -> InstanceData:
        """Return scored boxes of one image: the best cells of each level, with every class above the threshold."""
        scores, pts_refine, heat, offsets, *extra = maps
        limit = points[0].new_tensor([image_size[1], image_size[0]] * 2)
        boxes, probabilities, cells = [], [], []
        for level, level_points in enumerate(points):
            level_probabilities = flatten_map(scores[level]).sigmoid()
            level_boxes = points_to_boxes(flatten_map(pts_refine[level]), level_points)
            best = level_probabilities.amax(dim=1).topk(_limit(cfg, len(level_points))).indices
            level_boxes = level_boxes[best].clamp(min=0).minimum(limit)
            source = snapping_level(level)
            if source is not None:
                level_boxes = snap_boxes(level_boxes, heat[source], offsets[source], self.point_strides[source])
                level_boxes = level_boxes.clamp(min=0).minimum(limit)
            boxes.append(level_boxes)
            probabilities.append(level_probabilities[best])
            cells.append(best + sum(map(len, points[:level])))
        probability = torch.cat(probabilities)
        cell, label = (probability > cfg['score_thr']).nonzero(as_tuple=True)
        detections = InstanceData(bboxes=torch.cat(boxes)[cell], scores=probability[cell, label], labels=label)
        for name, values in self._fields(extra, torch.cat(points), torch.cat(cells)[cell]).items():
            detections.set_field(values, name)
        return detections

    def _fields(self, maps: list[list[Tensor]], points: Tensor, cells: Tensor) -> dict[str, Tensor]:
        """Return additional fields of detections, from other maps per level and the cells of the detections."""
        return {}


def _limit(cfg: dict[str, Any], available: int) -> int:
    """Return the number of cells to keep of a level: ``nms_pre``, or all if it is not positive."""
    wanted = cfg.get('nms_pre', -1)
    return min(wanted, available) if wanted > 0 else available


def flatten_map(x: Tensor) -> Tensor:
    """Reshape ``[..., C, H, W]`` to ``[..., H * W, C]``."""
    return x.flatten(-2).transpose(-1, -2)


def flatten_levels(levels: Sequence[Tensor]) -> Tensor:
    """Concatenate maps ``[B, C, H_i, W_i]`` to ``[B, N, C]`` in float32, sorted by level."""
    return torch.cat([flatten_map(level.float()) for level in levels], dim=1)


def points_to_boxes(offsets: Tensor, points: Tensor) -> Tensor:
    """Compute the boxes spanned by the first two points of each cell; the corners are not sorted.

    Args:
        offsets: ``[..., N, 2 * P]``, (y, x) of P points in strides from the cell.
        points: ``[N, 3 or more]``, (x, y, stride, ...) of the cells in pixels.

    Returns:
        ``[..., N, 4]``, (x1, y1, x2, y2) in pixels.
    """
    return offsets[..., [1, 0, 3, 2]] * points[:, 2:3] + points[:, [0, 1, 0, 1]]
