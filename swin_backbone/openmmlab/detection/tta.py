"""Testing detectors in several sizes and flips, with instance masks, which MMDetection's own TTA model refuses."""

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
"""RoI heads whose candidates can be had before NMS, and whose mask heads can be asked about any box."""

CANDIDATES, PROPOSALS = MERGES = ('candidates', 'proposals')
"""What is merged over the views: boxes before the final NMS, or proposals that every view then scores."""


@dataclass
class Look:
    """What a two-stage detector with masks makes of one view of a batch.

    Attributes:
        features: maps of the neck.
        semantic: the semantic feature that HTC's heads also read, or None.
        samples: data samples of the images.
        proposals: regions in the coordinates of the view, with scores, per image.
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
    """Merges what a detector finds in several views of an image: boxes, and masks where it makes any.

    With ``merge='candidates'`` the candidates of all views, in the coordinates of the image, go through one NMS, the
    one in the detector's ``test_cfg``. With ``merge='proposals'`` a two-stage detector first merges the proposals
    of all views by their NMS, scores the same regions in every view, and averages boxes and scores before the final
    NMS, as the original detection code does. The mask head then looks at every box that is left in every view, and the
    mean of its probabilities is the mask; pasting is linear, so this is the mean over the image's pixels. A single
    view that is not mirrored gives exactly what the plain test gives.

    A detector without NMS, or whose candidates cannot be had before it, is merged after its own test instead, by NMS
    across the views; masks that belong to a detector without RoIs are then a vote of the views.

    Args:
        module: the detector, or its config.
        data_preprocessor: in place of the detector's own.
        nms: merges the views of a detector whose ``test_cfg`` has no NMS, where there is more than one view.
        merge: one of :data:`MERGES`.

    Raises:
        InputError: there is no such way to merge, or the detector has no proposals.
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
                f'tta_merge={PROPOSALS!r} needs a two-stage detector with a region proposal network and an NMS, which '
                f'{type(self.module).__name__} is not here: leave it out.'
            )

    def test_step(self, data: Any) -> list[DetDataSample]:
        """Test every view and merge; ``data`` is a batch of ``TestTimeAug``."""
        head = head_before_nms(self.module)
        if head is None:
            return super().test_step(data)
        if self.module.with_mask or self.merge == PROPOSALS:
            return self.merge_looks([self.look(view) for view in split_views(data)])
        with tested_with(head, without_nms(head.test_cfg)):
            views = [self.module.test_step(view) for view in split_views(data)]
        return self.merge_preds(list(zip(*views, strict=True)))

    def merge_preds(self, data_samples_list: Sequence[Sequence[DetDataSample]]) -> list[DetDataSample]:
        """Merge boxes, and masks if there are any, that lie in the coordinates of the images."""
        return [self.merge_samples(list(samples)) for samples in data_samples_list]

    def merge_samples(self, samples: list[DetDataSample]) -> DetDataSample:
        """Merge the views of one image."""
        chosen = reference_of([sample.metainfo for sample in samples])
        found = [in_image(sample) for sample in samples]
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
        """The NMS of some test settings, with scores as it leaves them, and at most ``max_per_img`` instances."""
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
    def look(self, view: Any) -> Look:
        """Run a two-stage detector on one view of a batch, up to its proposals."""
        detector: Any = self.module
        head = detector.roi_head
        prepared = detector.data_preprocessor(view, False)
        features = detector.extract_feat(prepared['inputs'])
        samples = prepared['data_samples']
        proposals = detector.rpn_head.predict(features, samples, rescale=False)
        semantic = head.semantic_head(features)[1] if getattr(head, 'with_semantic', False) else None
        return Look(features, semantic, samples, proposals)

    @torch.no_grad()
    def merge_looks(self, looks: list[Look]) -> list[DetDataSample]:
        """Merge the boxes of all views and ask the mask head about what is left."""
        chosen = reference_of([look.metas[0] for look in looks])
        frames = [unflipped(meta) for meta in looks[chosen].metas]
        found = (self.pool_candidates if self.merge == CANDIDATES else self.average_scores)(looks, frames)
        if self.module.with_mask:
            found = self.add_masks(found, frames, looks)
        else:
            found = [in_frame(boxes, frame, original(frame)) for boxes, frame in zip(found, frames, strict=True)]
        return self.module.add_pred_to_datasample(looks[chosen].samples, found)

    def pool_candidates(self, looks: list[Look], frames: list[dict[str, Any]]) -> list[InstanceData]:
        """The candidates of all views through one NMS, in the coordinates of ``frames``, one for each image."""
        head: Any = self.module.roi_head
        scored = [score_regions(head, look, look.proposals, without_nms(head.test_cfg)) for look in looks]
        found = []
        for i, frame in enumerate(frames):
            moved = [in_frame(boxes[i], look.metas[i], frame) for boxes, look in zip(scored, looks, strict=True)]
            found.append(self.suppress(InstanceData.cat(moved), head.test_cfg))
        return found

    def average_scores(self, looks: list[Look], frames: list[dict[str, Any]]) -> list[InstanceData]:
        """The merged proposals, with boxes and scores averaged over the views, after the final NMS, in ``frames``."""
        head: Any = self.module.roi_head
        settings, proposals = head.test_cfg, self.merge_proposals(looks, frames)
        boxes: list[Any] = [0.0] * len(frames)
        scores: list[Any] = [0.0] * len(frames)
        for look in looks:
            own = [in_frame(p, frame, meta) for p, frame, meta in zip(proposals, frames, look.metas, strict=True)]
            for i, raw in enumerate(score_regions(head, look, own, None)):
                moved = move_boxes(raw.bboxes.reshape(-1, 4), look.metas[i], frames[i])
                boxes[i] = boxes[i] + moved.reshape(raw.bboxes.shape) / len(looks)
                scores[i] = scores[i] + raw.scores / len(looks)
        found = []
        for means in zip(boxes, scores, strict=True):
            kept, labels = multiclass_nms(*means, settings.score_thr, settings.nms, settings.max_per_img)
            found.append(InstanceData(bboxes=kept[:, :4], scores=kept[:, 4], labels=labels))
        return found

    def merge_proposals(self, looks: list[Look], frames: list[dict[str, Any]]) -> list[InstanceData]:
        """The proposals of all views through the NMS of proposals, in the coordinates of ``frames``."""
        merged = []
        for i, frame in enumerate(frames):
            moved = InstanceData.cat([in_frame(look.proposals[i], look.metas[i], frame) for look in looks])
            # Those of one view went through that NMS level by level.
            merged.append(moved if len(looks) == 1 else self.suppress(moved, self.module.rpn_head.test_cfg))
        return merged

    def add_masks(
        self, found: list[InstanceData], frames: list[dict[str, Any]], looks: list[Look]
    ) -> list[InstanceData]:
        """Give instances in the coordinates of ``frames`` their masks, and bring their boxes to the images."""
        head: Any = self.module.roi_head
        if not any(len(instances) for instances in found):
            threshold = head.test_cfg.mask_thr_binary
            return empty_instances(frames, found[0].bboxes.device, 'mask', found, mask_thr_binary=threshold)
        totals: list[Any] = [0.0] * len(found)
        for look in looks:
            boxes = [
                move_boxes(i.bboxes, frame, meta) for i, frame, meta in zip(found, frames, look.metas, strict=True)
            ]
            for i, probabilities in enumerate(mask_probabilities(head, look, boxes)):
                totals[i] = totals[i] + unflip_masks(probabilities, look.metas[i])
        last: Any = head.mask_head[-1] if isinstance(head.mask_head, nn.ModuleList) else head.mask_head
        return last.predict_by_feat(
            mask_preds=[total / len(looks) for total in totals],
            results_list=found,
            batch_img_metas=frames,
            rcnn_test_cfg=head.test_cfg,
            rescale=True,
            activate_map=True,
        )


def score_regions(head: Any, look: Look, proposals: list[InstanceData], test_cfg: Any) -> list[InstanceData]:
    """What an RoI head makes of regions of a view; without settings, boxes and scores of all classes."""
    fused = {} if look.semantic is None else dict(semantic_feat=look.semantic)
    return list(head.predict_bbox(look.features, look.metas, proposals, rcnn_test_cfg=test_cfg, rescale=False, **fused))


def split_views(data: Any) -> list[Any]:
    """A batch of ``TestTimeAug``, view by view."""
    if isinstance(data, dict):
        return [dict(zip(data, view, strict=True)) for view in zip(*data.values(), strict=True)]
    return [list(view) for view in zip(*data, strict=True)]


def head_before_nms(detector: Any) -> Any | None:
    """The head of a detector whose candidates can be had before its NMS, if there is one."""
    if hasattr(detector, 'roi_head'):
        head = detector.roi_head
        fits = detector.with_rpn and is_plain_roi_head(head)
    else:
        head = getattr(detector, 'bbox_head', None)
        fits = not detector.with_mask and is_plain_dense_head(head)
    return head if fits and (head.test_cfg or {}).get('nms') else None


def is_plain_roi_head(head: Any) -> bool:
    """Whether an RoI head predicts the way that one of :data:`ROI_HEADS` does."""
    kind = next((kind for kind in reversed(ROI_HEADS) if isinstance(head, kind)), None)
    methods = ('predict', 'predict_bbox', 'predict_mask')
    return kind is not None and all(getattr(type(head), name) is getattr(kind, name) for name in methods)


def is_plain_dense_head(head: Any) -> bool:
    """Whether a dense head ends with MMDetection's common NMS, and makes nothing but boxes."""
    if not isinstance(head, BaseDenseHead) or isinstance(head, RTMDetInsHead):
        return False
    return type(head)._bbox_post_process is BaseDenseHead._bbox_post_process


def final_settings(detector: Any) -> Any:
    """The test settings of the part of a detector that makes the final boxes."""
    settings = detector.test_cfg or {}
    return settings.get('rcnn') or settings


def reference_of(metas: Sequence[dict[str, Any]]) -> int:
    """The view whose coordinates and annotations the result takes over: the first that is not mirrored."""
    return next((i for i, meta in enumerate(metas) if not is_flipped(meta)), 0)


def in_frame(instances: InstanceData, source: dict[str, Any], target: dict[str, Any]) -> InstanceData:
    """Boxes, scores and labels with the boxes moved from one view to another."""
    boxes = move_boxes(instances.bboxes, source, target)
    return InstanceData(bboxes=boxes, scores=instances.scores, labels=instances.labels)


def in_image(sample: DetDataSample) -> InstanceData:
    """The prediction of a view, which the detector has scaled to the image, with the mirroring undone."""
    instances, meta = sample.pred_instances, sample.metainfo
    if is_flipped(meta):
        scaled = {**original(meta), 'flip': True, 'flip_direction': meta['flip_direction']}
        instances.bboxes = move_boxes(instances.bboxes, scaled, original(meta))
        if 'masks' in instances:
            instances.masks = unflip_masks(instances.masks, meta)
    return instances


def mask_probabilities(head: Any, look: Look, boxes: list[Tensor]) -> list[Tensor]:
    """What the mask heads say about boxes of one view: ``[n, classes, h, w]`` per image, the mean of all stages."""
    rois, counts = bbox2roi(boxes), [len(image) for image in boxes]
    if isinstance(head, HybridTaskCascadeRoIHead):
        logits = head._mask_forward(-1, look.features, rois, look.semantic, training=False)['mask_preds']
    elif isinstance(head, CascadeRoIHead):
        logits = [head._mask_forward(stage, look.features, rois)['mask_preds'] for stage in range(head.num_stages)]
    else:
        logits = [head._mask_forward(look.features, rois)['mask_preds']]
    stages = [[part.sigmoid() for part in stage.split(counts, 0)] for stage in logits]
    if len(stages) == 1:
        return stages[0]
    return [torch.stack(image).mean(dim=0) for image in zip(*stages, strict=True)]


SAME_INSTANCE = 0.5
"""Box IoU from which detections of one class in different views are taken for one instance."""


def vote_masks(merged: InstanceData, views: Sequence[InstanceData]) -> Tensor:
    """Masks ``[n, H, W]`` of merged instances: the pixels that at least half of the views give to the instance.

    Args:
        merged: instances chosen among those of the views.
        views: what each view found, in the coordinates of the image; a view that lacks an instance does not vote.
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


def keep_every_box(boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """In place of an NMS: all boxes with their scores ``[n, 5]`` in the order given, and their indices."""
    return torch.cat([boxes, scores[:, None]], dim=1), torch.arange(len(boxes), device=boxes.device)


def without_nms(test_cfg: Any) -> Any:
    """The same test settings of a head, except that its candidates stay as they are before NMS, all of them."""
    settings = copy.deepcopy(test_cfg)
    settings['nms'] = dict(type=keep_every_box, split_thr=sys.maxsize)
    settings['max_per_img'] = sys.maxsize
    return settings


@contextmanager
def tested_with(head: nn.Module, test_cfg: Any) -> Iterator[None]:
    """Let a head use other test settings for a while."""
    before = head.test_cfg
    head.test_cfg = test_cfg
    try:
        yield
    finally:
        head.test_cfg = before
