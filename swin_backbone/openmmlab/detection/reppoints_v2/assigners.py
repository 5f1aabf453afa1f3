"""RepPoints V2's assigners of locations to objects, with MMDetection's interface."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmdet.models.task_modules.assigners import AssignResult, ATSSAssigner, BaseAssigner
from mmengine.structures import InstanceData
from torch import Tensor

from swin_backbone.registry import TASK_UTILS


@TASK_UTILS.register_module()
class PointAssignerV2(BaseAssigner):
    """Assign to every object the nearest location(s) of one pyramid level, which depends on the object's size.

    An object of width w and height h belongs to level ``trunc((log2(w / scale) + log2(h / scale)) / 2)``, clamped to
    the available levels; the stride of a level is ``2**level``. Distances are measured from the centre, in units of the
    object's width and height. A location that is nearest to several objects is assigned to the closest of them.

    Args:
        scale: size of an object in strides of its level.
        pos_num: locations per object.
    """

    def __init__(self, scale: float = 4, pos_num: int = 1) -> None:
        self.scale = scale
        self.pos_num = pos_num

    def assign(
        self,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        gt_instances_ignore: InstanceData | None = None,
        **kwargs: object,
    ) -> AssignResult:
        """Assign locations to objects.

        Args:
            pred_instances: ``priors`` ``[N, 3 or more]``: (x, y, stride, ...) in pixels.
            gt_instances: ``bboxes`` ``[G, 4]`` (x1, y1, x2, y2) in pixels and ``labels`` ``[G]``.
            gt_instances_ignore: not used, as in the original code.
            **kwargs: not used; arguments of other assigners.
        """
        points, boxes, labels = pred_instances.priors, gt_instances.bboxes, gt_instances.labels
        num_points, num_boxes = len(points), len(boxes)
        gt_inds = points.new_zeros(num_points, dtype=torch.long)
        if num_points and num_boxes:
            distances = self._distances(points, boxes)
            nearest = distances.topk(min(self.pos_num, num_points), dim=0, largest=False)
            claims = torch.full_like(distances, torch.inf).scatter(0, nearest.indices, nearest.values)
            best, owner = claims.min(dim=1)
            gt_inds = torch.where(best.isfinite(), owner + 1, gt_inds)
        assigned = torch.full_like(gt_inds, -1)
        assigned[gt_inds > 0] = labels[gt_inds[gt_inds > 0] - 1]
        return AssignResult(num_boxes, gt_inds, None, labels=assigned)

    def _distances(self, points: Tensor, boxes: Tensor) -> Tensor:
        """Compute distances ``[N, G]`` in units of the boxes' sizes; infinite for levels other than that of a box."""
        sizes = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-6)
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        distances = ((points[:, None, :2] - centres) / sizes).norm(dim=2)
        point_level = points[:, 2].log2().round()
        box_level = ((sizes / self.scale).log2().sum(dim=1) / 2).trunc().clamp(point_level.min(), point_level.max())
        return distances.masked_fill(point_level[:, None] != box_level, torch.inf)


@TASK_UTILS.register_module()
class ATSSAssignerV2(ATSSAssigner):
    """ATSS (Zhang et al., CVPR 2020) that uses ``topk`` candidates of every level, even if it has fewer locations.

    A level with fewer locations repeats random ones, so that every level has the same weight in the mean and the
    deviation of the threshold. For larger levels it equals MMDetection's assigner, whose arguments it has.
    """

    def assign(
        self,
        pred_instances: InstanceData,
        num_level_priors: list[int],
        gt_instances: InstanceData,
        gt_instances_ignore: InstanceData | None = None,
    ) -> AssignResult:
        """Assign boxes to objects.

        Args:
            pred_instances: ``priors`` ``[N, 4]``: (x1, y1, x2, y2) in pixels, sorted by level.
            num_level_priors: number of boxes of each level.
            gt_instances: ``bboxes`` ``[G, 4]`` and ``labels`` ``[G]``.
            gt_instances_ignore: ``bboxes`` to ignore if ``ignore_iof_thr`` is set.
        """
        priors = pred_instances.priors
        sources = [_at_least(count, self.topk) for count in num_level_priors]
        starts = torch.tensor([0, *num_level_priors[:-1]]).cumsum(0).tolist()
        index = torch.cat([source + start for source, start in zip(sources, starts, strict=True)]).to(priors.device)
        result = super().assign(
            InstanceData(priors=priors[index]), [len(source) for source in sources], gt_instances, gt_instances_ignore
        )
        # Repeated locations have the same box, and so the same result, as the first one.
        first = torch.cat([torch.arange(len(s)) < n for s, n in zip(sources, num_level_priors, strict=True)])
        first = first.to(priors.device)
        return AssignResult(
            result.num_gts, result.gt_inds[first], result.max_overlaps[first], labels=result.labels[first]
        )


def _at_least(count: int, minimum: int) -> Tensor:
    """Return ``0 ... count - 1``, followed by random repetitions up to ``minimum`` numbers."""
    repeats = [torch.randperm(count) for _ in range(0, minimum - count, max(count, 1))]
    return torch.cat([torch.arange(count), *repeats])[: max(count, minimum)]


@dataclass
class Matches:
    """Objects assigned to N locations of B images.

    Attributes:
        gt_inds: ``[B, N]``: -1 for ignored locations, 0 for background, otherwise the index of the object plus one.
        boxes: ``[P, 4]``, boxes of the objects at the P positive locations, sorted by image.
        labels: ``[P]``, classes of these objects.
        avg_factor: number of positive locations, at least one per image.
    """

    gt_inds: Tensor
    boxes: Tensor
    labels: Tensor
    avg_factor: int

    @property
    def positive(self) -> Tensor:
        """``[B, N]``, whether a location has an object."""
        return self.gt_inds > 0


def match(
    assigner: BaseAssigner,
    priors: Tensor,
    valid: Tensor,
    level_sizes: Sequence[int],
    objects: Sequence[InstanceData],
    ignored: Sequence[InstanceData] | None = None,
) -> Matches:
    """Run an assigner on every image of a batch.

    Args:
        assigner: an assigner with MMDetection's interface.
        priors: ``[B, N, 4]``, points with strides, or boxes, as the assigner requires.
        valid: ``[B, N]``, false for locations outside an image.
        level_sizes: locations per level; their sum is N.
        objects: ``bboxes`` and ``labels`` of every image.
        ignored: ``bboxes`` of every image that are neither objects nor background, or None.
    """
    gt_inds = torch.full(valid.shape, -1, device=valid.device)
    boxes, labels, avg_factor = [], [], 0
    for i, (gt, kept) in enumerate(zip(objects, valid, strict=True)):
        sizes = [int(level.sum()) for level in kept.split(list(level_sizes))]
        result = assigner.assign(
            InstanceData(priors=priors[i, kept]),
            num_level_priors=sizes,
            gt_instances=gt,
            gt_instances_ignore=ignored[i] if ignored else None,
        )
        gt_inds[i, kept] = result.gt_inds
        owner = result.gt_inds[result.gt_inds > 0] - 1
        boxes.append(gt.bboxes[owner])
        labels.append(gt.labels[owner])
        avg_factor += max(len(owner), 1)
    return Matches(gt_inds, torch.cat(boxes), torch.cat(labels), avg_factor)
