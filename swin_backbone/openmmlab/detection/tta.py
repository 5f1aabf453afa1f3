"""Test-time augmentation of detectors, including instance masks, which MMDetection's TTA model does not support."""

import copy
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from mmcv.ops import batched_nms
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.dense_heads.rtmdet_ins_head import RTMDetInsHead
from mmdet.models.layers import multiclass_nms
from mmdet.models.roi_heads import CascadeRoIHead, HybridTaskCascadeRoIHead, StandardRoIHead
from mmdet.models.utils import empty_instances
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi, bbox_overlaps
from mmengine.model import BaseTTAModel
from mmengine.structures import InstanceData
from torch import Tensor, nn

from swin_backbone.errors import InputError
from swin_backbone.openmmlab.detection.views import is_flipped, move_boxes, original, unflip_masks, unflipped
from swin_backbone.registry import MODELS

ROI_HEADS = (StandardRoIHead, CascadeRoIHead, HybridTaskCascadeRoIHead)
"""RoI heads that can return candidates before NMS, and whose mask heads accept any boxes."""

CANDIDATES, PROPOSALS = MERGES = ('candidates', 'proposals')
"""Merged results of the views: boxes before the final NMS, or proposals that are then scored in every view."""


@dataclass
class ViewFeatures:
    """Features and proposals of a two-stage detector for one view of a batch.

    Attributes:
        features: maps of the neck.
        semantic: the semantic feature of HTC's heads, or None.
        samples: data samples of the images.
        proposals: proposals with scores per image, in the coordinates of the view.
    """

    features: Sequence[Tensor]
    semantic: Tensor | None
    samples: list[DetDataSample]
    proposals: list[InstanceData]

    @property
    def metas(self) -> list[dict[str, Any]]:
        """Meta information of the images."""
        return [sample.metainfo for sample in self.samples]


@MODELS.register_module()
class InstanceTTAModel(BaseTTAModel):
    """Test-time augmentation that merges boxes, and masks if any, of several views of an image.

    With ``merge='candidates'``, the candidates of all views are converted to the coordinates of the image and merged by
    the NMS of the detector's ``test_cfg``. With ``merge='proposals'``, a two-stage detector merges the proposals of all
    views by its proposal NMS, scores the same regions in every view, and averages boxes and scores before the final
    NMS, as in the original detection code. The mask head then predicts masks of the remaining boxes in every view, and
    the masks are the mean of its probabilities; pasting is linear, so this is also the mean over the pixels of the
    image. A single view without a flip gives exactly the result of a normal test.

    A detector without NMS, or that cannot return candidates before its NMS, is merged after its own prediction, by NMS
    across the views. For detectors without RoIs, masks are then merged by a vote of the views.

    Args:
        module: the detector, or its config.
        data_preprocessor: replaces that of the detector.
        nms: NMS that merges several views of a detector whose ``test_cfg`` has none.
        merge: one of :data:`MERGES`.

    Raises:
        InputError: if ``merge`` is unknown, or the detector has no proposals.
    """

    def __init__(
        self,
        module: dict[str, Any] | nn.Module,
        data_preprocessor: dict[str, Any] | nn.Module | None = None,
        nms: dict[str, Any] | None = None,
        merge: str = CANDIDATES,
    ) -> None:
        super().__init__(module, data_preprocessor)
        self.nms = nms or dict(type='nms', iou_threshold=0.5)
        self.merge = merge
        if merge not in MERGES:
            raise InputError(f'tta_merge must be {" or ".join(MERGES)}, got {merge!r}.')
        if merge == PROPOSALS and not (hasattr(self.module, 'roi_head') and head_before_nms(self.module)):
            raise InputError(
                f'tta_merge={PROPOSALS!r} needs a two-stage detector with a region proposal network and an NMS, got '
                f'{type(self.module).__name__}: leave tta_merge out.'
            )

    def test_step(self, data: Any) -> list[DetDataSample]:
        """Test every view and merge; ``data`` is a batch of ``TestTimeAug``."""
        head = head_before_nms(self.module)
        if head is None:
            return super().test_step(data)
        if self.module.with_mask or self.merge == PROPOSALS:
            return self.merge_views([self.run_view(view) for view in split_views(data)])
        with using_test_cfg(head, without_nms(head.test_cfg)):
            views = [self.module.test_step(view) for view in split_views(data)]
        return self.merge_preds(list(zip(*views, strict=True)))

    def merge_preds(self, data_samples_list: Sequence[Sequence[DetDataSample]]) -> list[DetDataSample]:
        """Merge boxes, and masks if there are any, in the coordinates of the images."""
        return [self.merge_samples(list(samples)) for samples in data_samples_list]

    def merge_samples(self, samples: list[DetDataSample]) -> DetDataSample:
        """Merge the views of one image."""
        chosen = first_unflipped([sample.metainfo for sample in samples])
        found = [scaled_prediction(sample) for sample in samples]
        head = head_before_nms(self.module)
        if head is not None:
            merged = self.suppress(InstanceData.cat(found), head.test_cfg)
        elif len(found) == 1:
            merged = found[0]
        else:
            merged = self.suppress(InstanceData.cat(found), final_settings(self.module))
            if 'masks' in merged:
                merged.masks = vote_masks(merged, found)
        samples[chosen].pred_instances = merged
        return samples[chosen]

    def suppress(self, candidates: InstanceData, test_cfg: Any) -> InstanceData:
        """Apply the NMS of ``test_cfg``, which may change scores, and keep at most ``max_per_img`` instances."""
        if len(candidates) == 0:
            return candidates
        boxes, kept = batched_nms(
            candidates.bboxes, candidates.scores, candidates.labels, test_cfg.get('nms') or self.nms
        )
        limit = test_cfg.get('max_per_img', -1)
        chosen = slice(limit) if limit > 0 else slice(None)
        merged = candidates[kept[chosen]]
        merged.scores = boxes[chosen, -1]
        return merged

    @torch.no_grad()
    def run_view(self, view: Any) -> ViewFeatures:
        """Run a two-stage detector on one view of a batch, up to its proposals."""
        detector: Any = self.module
        head = detector.roi_head
        prepared = detector.data_preprocessor(view, False)
        features = detector.extract_feat(prepared['inputs'])
        samples = prepared['data_samples']
        proposals = detector.rpn_head.predict(features, samples, rescale=False)
        semantic = head.semantic_head(features)[1] if getattr(head, 'with_semantic', False) else None
        return ViewFeatures(features, semantic, samples, proposals)

    @torch.no_grad()
    def merge_views(self, views: list[ViewFeatures]) -> list[DetDataSample]:
        """Merge the boxes of all views, and predict the masks of the merged boxes."""
        chosen = first_unflipped([view.metas[0] for view in views])
        frames = [unflipped(meta) for meta in views[chosen].metas]
        found = (self.pool_candidates if self.merge == CANDIDATES else self.average_scores)(views, frames)
        if self.module.with_mask:
            found = self.add_masks(found, frames, views)
        else:
            found = [move_instances(boxes, frame, original(frame)) for boxes, frame in zip(found, frames, strict=True)]
        return self.module.add_pred_to_datasample(views[chosen].samples, found)

    def pool_candidates(self, views: list[ViewFeatures], frames: list[dict[str, Any]]) -> list[InstanceData]:
        """Merge the candidates of all views by one NMS, in the coordinates of ``frames``, one per image."""
        head: Any = self.module.roi_head
        scored = [score_regions(head, view, view.proposals, without_nms(head.test_cfg)) for view in views]
        found = []
        for i, frame in enumerate(frames):
            moved = [move_instances(boxes[i], view.metas[i], frame) for boxes, view in zip(scored, views, strict=True)]
            found.append(self.suppress(InstanceData.cat(moved), head.test_cfg))
        return found

    def average_scores(self, views: list[ViewFeatures], frames: list[dict[str, Any]]) -> list[InstanceData]:
        """Average boxes and scores of merged proposals over the views, and apply the final NMS, in ``frames``."""
        head: Any = self.module.roi_head
        settings, proposals = head.test_cfg, self.merge_proposals(views, frames)
        boxes: list[Any] = [0.0] * len(frames)
        scores: list[Any] = [0.0] * len(frames)
        for view in views:
            own = [move_instances(p, frame, meta) for p, frame, meta in zip(proposals, frames, view.metas, strict=True)]
            for i, raw in enumerate(score_regions(head, view, own, None)):
                moved = move_boxes(raw.bboxes.reshape(-1, 4), view.metas[i], frames[i])
                boxes[i] = boxes[i] + moved.reshape(raw.bboxes.shape) / len(views)
                scores[i] = scores[i] + raw.scores / len(views)
        found = []
        for means in zip(boxes, scores, strict=True):
            kept, labels = multiclass_nms(*means, settings.score_thr, settings.nms, settings.max_per_img)
            found.append(InstanceData(bboxes=kept[:, :4], scores=kept[:, 4], labels=labels))
        return found

    def merge_proposals(self, views: list[ViewFeatures], frames: list[dict[str, Any]]) -> list[InstanceData]:
        """Merge the proposals of all views by the proposal NMS, in the coordinates of ``frames``."""
        merged = []
        for i, frame in enumerate(frames):
            moved = InstanceData.cat([move_instances(view.proposals[i], view.metas[i], frame) for view in views])
            # The proposals of a single view have been filtered by that NMS already, per level.
            merged.append(moved if len(views) == 1 else self.suppress(moved, self.module.rpn_head.test_cfg))
        return merged

    def add_masks(
        self, found: list[InstanceData], frames: list[dict[str, Any]], views: list[ViewFeatures]
    ) -> list[InstanceData]:
        """Predict masks of instances in the coordinates of ``frames``, and convert their boxes to the images."""
        head: Any = self.module.roi_head
        if not any(len(instances) for instances in found):
            threshold = head.test_cfg.mask_thr_binary
            return empty_instances(frames, found[0].bboxes.device, 'mask', found, mask_thr_binary=threshold)
        totals: list[Any] = [0.0] * len(found)
        for view in views:
            boxes = [
                move_boxes(i.bboxes, frame, meta) for i, frame, meta in zip(found, frames, view.metas, strict=True)
            ]
            for i, probabilities in enumerate(mask_probabilities(head, view, boxes)):
                totals[i] = totals[i] + unflip_masks(probabilities, view.metas[i])
        last: Any = head.mask_head[-1] if isinstance(head.mask_head, nn.ModuleList) else head.mask_head
        return last.predict_by_feat(
            mask_preds=[total / len(views) for total in totals],
            results_list=found,
            batch_img_metas=frames,
            rcnn_test_cfg=head.test_cfg,
            rescale=True,
            activate_map=True,
        )


def score_regions(head: Any, view: ViewFeatures, proposals: list[InstanceData], test_cfg: Any) -> list[InstanceData]:
    """Score regions of a view with an RoI head; if ``test_cfg`` is None, return boxes and scores of all classes."""
    fused = {} if view.semantic is None else dict(semantic_feat=view.semantic)
    return list(head.predict_bbox(view.features, view.metas, proposals, rcnn_test_cfg=test_cfg, rescale=False, **fused))


def split_views(data: Any) -> list[Any]:
    """Split a batch of ``TestTimeAug`` into views."""
    if isinstance(data, dict):
        return [dict(zip(data, view, strict=True)) for view in zip(*data.values(), strict=True)]
    return [list(view) for view in zip(*data, strict=True)]


def head_before_nms(detector: Any) -> Any | None:
    """Return the head of a detector if it can return candidates before its NMS; None otherwise."""
    if hasattr(detector, 'roi_head'):
        head = detector.roi_head
        fits = detector.with_rpn and is_plain_roi_head(head)
    else:
        head = getattr(detector, 'bbox_head', None)
        fits = not detector.with_mask and is_plain_dense_head(head)
    return head if fits and (head.test_cfg or {}).get('nms') else None


def is_plain_roi_head(head: Any) -> bool:
    """Return whether an RoI head has the prediction methods of one of :data:`ROI_HEADS`."""
    kind = next((kind for kind in reversed(ROI_HEADS) if isinstance(head, kind)), None)
    methods = ('predict', 'predict_bbox', 'predict_mask')
    return kind is not None and all(getattr(type(head), name) is getattr(kind, name) for name in methods)


def is_plain_dense_head(head: Any) -> bool:
    """Return whether a dense head uses MMDetection's common post-processing, and predicts only boxes."""
    if not isinstance(head, BaseDenseHead) or isinstance(head, RTMDetInsHead):
        return False
    return type(head)._bbox_post_process is BaseDenseHead._bbox_post_process


def final_settings(detector: Any) -> Any:
    """Return the test settings of the part of a detector that predicts the final boxes."""
    settings = detector.test_cfg or {}
    return settings.get('rcnn') or settings


def first_unflipped(metas: Sequence[dict[str, Any]]) -> int:
    """Return the index of the view whose sample receives the result: the first one without a flip."""
    return next((i for i, meta in enumerate(metas) if not is_flipped(meta)), 0)


def move_instances(instances: InstanceData, source: dict[str, Any], target: dict[str, Any]) -> InstanceData:
    """Return boxes, scores and labels, with the boxes converted from one view to another."""
    boxes = move_boxes(instances.bboxes, source, target)
    return InstanceData(bboxes=boxes, scores=instances.scores, labels=instances.labels)


def scaled_prediction(sample: DetDataSample) -> InstanceData:
    """Return the prediction of a view, which the detector has scaled to the image, without the flip."""
    instances, meta = sample.pred_instances, sample.metainfo
    if is_flipped(meta):
        scaled = {**original(meta), 'flip': True, 'flip_direction': meta['flip_direction']}
        instances.bboxes = move_boxes(instances.bboxes, scaled, original(meta))
        if 'masks' in instances:
            instances.masks = unflip_masks(instances.masks, meta)
    return instances


def mask_probabilities(head: Any, view: ViewFeatures, boxes: list[Tensor]) -> list[Tensor]:
    """Predict masks of boxes in one view: ``[n, classes, h, w]`` per image, the mean over all stages."""
    rois, counts = bbox2roi(boxes), [len(image) for image in boxes]
    if isinstance(head, HybridTaskCascadeRoIHead):
        logits = head._mask_forward(-1, view.features, rois, view.semantic, training=False)['mask_preds']
    elif isinstance(head, CascadeRoIHead):
        logits = [head._mask_forward(stage, view.features, rois)['mask_preds'] for stage in range(head.num_stages)]
    else:
        logits = [head._mask_forward(view.features, rois)['mask_preds']]
    stages = [[part.sigmoid() for part in stage.split(counts, 0)] for stage in logits]
    if len(stages) == 1:
        return stages[0]
    return [torch.stack(image).mean(dim=0) for image in zip(*stages, strict=True)]


SAME_INSTANCE = 0.5
"""Box IoU from which detections of one class in different views count as the same instance."""


def vote_masks(merged: InstanceData, views: Sequence[InstanceData]) -> Tensor:
    """Merge masks ``[n, H, W]`` of instances: a pixel is kept if at least half of the views have it.

    Args:
        merged: merged instances, a subset of those of the views.
        views: instances of each view, in the coordinates of the image; a view without an instance does not vote on it.
    """
    votes = torch.zeros(merged.masks.shape, device=merged.masks.device)
    voters = votes.new_zeros(len(merged))
    for view in views:
        if len(view) == 0:
            continue
        overlaps = bbox_overlaps(merged.bboxes, view.bboxes)
        overlaps[merged.labels[:, None] != view.labels[None, :]] = 0.0
        overlap, partner = overlaps.max(dim=1)
        seen = overlap >= SAME_INSTANCE
        votes[seen] += view.masks[partner[seen]].float()
        voters += seen
    return votes * 2 >= voters[:, None, None].clamp(min=1)


def keep_all_boxes(boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return all boxes with their scores ``[n, 5]`` and their indices; replaces an NMS."""
    return torch.cat([boxes, scores[:, None]], dim=1), torch.arange(len(boxes), device=boxes.device)


def without_nms(test_cfg: Any) -> Any:
    """Return the test settings of a head with NMS and the limit of instances disabled."""
    settings = copy.deepcopy(test_cfg)
    settings['nms'] = dict(type=keep_all_boxes, split_thr=sys.maxsize)
    settings['max_per_img'] = sys.maxsize
    return settings


@contextmanager
def using_test_cfg(head: nn.Module, test_cfg: Any) -> Iterator[None]:
    """Use other test settings of a head within the context."""
    before = head.test_cfg
    head.test_cfg = test_cfg
    try:
        yield
    finally:
        head.test_cfg = before
