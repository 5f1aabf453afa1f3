"""Detectors as one exportable graph, from an image to boxes, scores, labels and masks after suppression."""

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models import (
    AnchorHead,
    ATSSHead,
    CascadeRoIHead,
    ConvFCBBoxHead,
    FCNMaskHead,
    RetinaHead,
    RPNHead,
    SingleStageDetector,
    StandardRoIHead,
    TwoStageDetector,
)
from mmdet.structures.bbox import get_box_tensor
from torch import Tensor, nn
from torchvision.ops import roi_align

from swin_backbone.engine.exported_input import Normalized
from swin_backbone.engine.exported_nms import ONNX_FUNCTIONS, gather_rows, suppress, top_scores
from swin_backbone.errors import InputError

Size = tuple[int, int]


class Detector(Normalized):
    """A detector that predicts a fixed number of objects in each image.

    Args:
        model: an MMDetection detector in evaluation mode.

    Raises:
        InputError: if the heads of the model are not supported.
    """

    onnx_functions = ONNX_FUNCTIONS

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        if isinstance(model, TwoStageDetector) and type(model.roi_head) in (StandardRoIHead, CascadeRoIHead):
            heads = as_list(model.roi_head.bbox_head)
            masks = as_list(model.roi_head.mask_head) if model.roi_head.with_mask else []
            supported = type(model.rpn_head) is RPNHead and not model.roi_head.with_shared_head
            supported &= all(isinstance(head, ConvFCBBoxHead) and not head.custom_activation for head in heads)
            supported &= all(type(head) is FCNMaskHead and not head.class_agnostic for head in masks)
            settings = [model.test_cfg.rpn, model.test_cfg.rcnn]
            self.output_names = ('boxes', 'scores', 'labels', *(['masks'] if masks else []))
        else:
            supported = isinstance(model, SingleStageDetector) and type(model.bbox_head) in (ATSSHead, RetinaHead)
            supported = supported and model.bbox_head.use_sigmoid_cls
            settings = [model.test_cfg]
            self.output_names = ('boxes', 'scores', 'labels')
        if not supported:
            raise InputError(
                f'{type(model).__name__} cannot be exported with its heads; ATSS, RetinaNet, Faster, Mask and Cascade '
                'R-CNN are supported. Add --backbone to export only the backbone, or --raw to export the head outputs '
                'of a one-stage detector.'
            )
        kinds = {cfg.nms.get('type', 'nms') for cfg in settings if cfg is not None}
        if kinds - {'nms'}:
            raise InputError(
                f'suppression of type {", ".join(sorted(kinds - {"nms"}))!r} does not exist in ONNX: set it to nms '
                "with --cfg-options model.test_cfg.rcnn.nms.type=nms; scores then differ from the model's."
            )

        head = model.rpn_head if isinstance(model, TwoStageDetector) else model.bbox_head
        # If the last feature map had a single row, its height would become a constant of the graph.
        self.least_side = max(max(stride) for stride in head.prior_generator.strides) + 1

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Detect objects in RGB images ``[B, 3, H, W]`` with values from 0 to 255.

        Returns:
            Boxes ``[B, K, 4]`` as corners in pixels, scores ``[B, K]`` in descending order, labels ``[B, K]`` and, for
            a model with masks, the mask probabilities of each object on a grid over its box, ``[B, K, 28, 28]``. If
            an image has fewer than K objects, the remaining entries have score 0 and label -1.
        """
        model: Any = self.model
        size = (image.shape[2], image.shape[3])
        maps = model.extract_feat(self.normalise(image))
        if not isinstance(model, TwoStageDetector):
            return one_stage(model.bbox_head, maps, size, model.test_cfg)
        proposals = propose(model.rpn_head, maps, size, model.test_cfg.rpn)
        boxes, scores, labels = classify(model.roi_head, maps, proposals, size, model.test_cfg.rcnn)
        if not model.roi_head.with_mask:
            return boxes, scores, labels
        return boxes, scores, labels, predict_masks(model.roi_head, maps, boxes, labels)


class RawDetector(Normalized):
    """A one-stage detector as one graph, up to the outputs of its head.

    Args:
        model: an MMDetection detector in evaluation mode.

    Raises:
        InputError: if the detector has more than one stage.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        if not isinstance(model, SingleStageDetector):
            raise InputError(f'--raw needs a one-stage detector, got {type(model).__name__}: leave --raw out.')
        self.least_side = max(max(stride) for stride in model.bbox_head.prior_generator.strides) + 1

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Compute the head outputs for RGB images ``[B, 3, H, W]`` with values from 0 to 255.

        Returns:
            Every map of the head, ``[B, C, h, w]``: all levels of its first output, then of its second, and so on.
        """
        model: Any = self.model
        outputs = model.bbox_head(model.extract_feat(self.normalise(image)))
        return tuple(level for output in outputs for level in output)


def one_stage(head: AnchorHead, maps: Sequence[Tensor], size: Size, cfg: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Decode the outputs of an anchor head like MMDetection."""
    outputs = head(maps)
    anchors = head.prior_generator.grid_priors([level.shape[2:] for level in outputs[0]], device=maps[0].device)
    boxes, scores, labels = [], [], []
    for level, priors in enumerate(anchors):
        per_class = rows(outputs[0][level], head.num_classes).sigmoid()
        flat = per_class.flatten(1)
        # Scores up to the threshold become zero, which sorts them last.
        chosen, index = top_scores(torch.where(flat > cfg.score_thr, flat, 0.0), cfg.nms_pre)
        place, label = index // head.num_classes, index % head.num_classes
        deltas = gather_rows(rows(outputs[1][level], 4), place)
        boxes.append(
            decode(head.bbox_coder, gather_rows(priors[None].expand(deltas.shape[0], -1, -1), place), deltas, size)
        )
        if len(outputs) > 2:  # centerness
            chosen = chosen * gather_rows(rows(outputs[2][level], 1).sigmoid(), place)[..., 0]
        scores.append(chosen.clamp(min=0))
        labels.append(label)
    corners, values, classes = torch.cat(boxes, 1), torch.cat(scores, 1), torch.cat(labels, 1)
    values = values * large_enough(corners, cfg)
    # Boxes are offset by class, so that boxes of different classes never suppress each other.
    apart = corners + (classes * (corners.max() + 1))[..., None]
    kept = suppress(apart, values, cfg.nms.iou_threshold, 0.0)
    return finish(corners, values * kept, classes, cfg.max_per_img)


def propose(head: RPNHead, maps: Sequence[Tensor], size: Size, cfg: Any) -> Tensor:
    """Return region proposals ``[B, R, 4]``; missing ones are zero."""
    scores, deltas = head(maps)
    anchors = head.prior_generator.grid_priors([level.shape[2:] for level in scores], device=maps[0].device)
    boxes, values = [], []
    for level, priors in enumerate(anchors):
        chosen, place = top_scores(rows(scores[level], 1)[..., 0].sigmoid(), cfg.nms_pre)
        corners = decode(
            head.bbox_coder,
            gather_rows(priors[None].expand(chosen.shape[0], -1, -1), place),
            gather_rows(rows(deltas[level], 4), place),
            size,
        )
        chosen = torch.where(large_enough(corners, cfg), chosen, -1.0)
        kept = suppress(corners, chosen, cfg.nms.iou_threshold, -0.5)
        boxes.append(corners)
        values.append(torch.where(kept, chosen, -1.0))
    value, index = top_scores(torch.cat(values, 1), cfg.max_per_img)
    return gather_rows(torch.cat(boxes, 1), index) * (value >= 0)[..., None]


def classify(head: Any, maps: Sequence[Tensor], boxes: Tensor, size: Size, cfg: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Classify and refine region proposals with one box head or a cascade of them."""
    stages, extractors = as_list(head.bbox_head), as_list(head.bbox_roi_extractor)
    batch, number = boxes.shape[0], boxes.shape[1]
    real = (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])
    total = boxes.new_zeros(())
    for stage, (box_head, extractor) in enumerate(zip(stages, extractors, strict=True)):
        logits, deltas = box_head(extract(extractor, maps, boxes))
        logits, deltas = logits.reshape(batch, number, -1), deltas.reshape(batch, number, -1, 4)
        total = total + logits
        if stage + 1 < len(stages):
            if not box_head.reg_class_agnostic:
                label = logits[..., :-1].argmax(2)[..., None, None]
                deltas = deltas.gather(2, label.expand(-1, -1, 1, 4))
            boxes = decode(box_head.bbox_coder, boxes, deltas[:, :, 0], size)
    scores = (total / len(stages)).softmax(2)[..., :-1] * real[..., None]
    classes = scores.shape[2]
    # [B, R, 1 or classes, 4]
    corners = decode(stages[-1].bbox_coder, boxes[:, :, None].expand_as(deltas), deltas, size)
    corners = corners.expand(-1, -1, classes, -1).transpose(1, 2).reshape(batch * classes, number, 4)
    scores = scores.transpose(1, 2).reshape(batch * classes, number)
    kept = suppress(corners, scores, cfg.nms.iou_threshold, cfg.score_thr)
    labels = torch.arange(classes, device=boxes.device)[:, None].expand(batch, -1, number)
    return finish(
        corners.reshape(batch, classes * number, 4),
        (scores * kept).reshape(batch, classes * number),
        labels.reshape(batch, classes * number),
        cfg.max_per_img,
    )


def predict_masks(head: Any, maps: Sequence[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
    """Return mask probabilities of each object on a grid over its box, ``[B, K, h, w]``, averaged over stages."""
    stages, extractors = as_list(head.mask_head), as_list(head.mask_roi_extractor)
    grids = [
        mask_head(extract(extractor, maps, boxes)).sigmoid()
        for mask_head, extractor in zip(stages, extractors, strict=True)
    ]
    mean = torch.stack(grids).mean(0)  # [B * K, classes, h, w]
    own = labels.clamp(min=0).reshape(-1, 1, 1, 1).expand(-1, 1, mean.shape[2], mean.shape[3])
    return mean.gather(1, own).reshape(boxes.shape[0], boxes.shape[1], mean.shape[2], mean.shape[3])


def extract(extractor: Any, maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
    """Return RoI features ``[B * R, C, h, w]``, each from the level that matches the region's size."""
    batch, number = boxes.shape[0], boxes.shape[1]
    image = torch.arange(batch, device=boxes.device, dtype=boxes.dtype)[:, None].expand(-1, number)
    regions = torch.cat([image.reshape(-1, 1), boxes.reshape(-1, 4)], 1)
    layers = extractor.roi_layers
    own = extractor.map_roi_levels(regions, len(layers))
    found = []
    for level, layer in enumerate(layers):
        # Regions of other levels are shrunk to a point, which costs almost nothing, and set to zero below.
        here = (own == level)[:, None]
        points = torch.cat([regions[:, :1], regions[:, 1:] * here], 1)
        features = roi_align(
            maps[level], points, layer.output_size, layer.spatial_scale, layer.sampling_ratio, layer.aligned
        )
        found.append(torch.where(here[..., None, None], features, 0.0))
    return torch.stack(found).sum(0)


def rows(level: Tensor, channels: int) -> Tensor:
    """Reshape a map ``[B, A * C, h, w]`` to ``[B, h * w * A, C]``."""
    return level.permute(0, 2, 3, 1).reshape(level.shape[0], -1, channels)


def decode(coder: Any, priors: Tensor, deltas: Tensor, size: Size) -> Tensor:
    """Decode boxes ``[..., 4]`` with MMDetection's coder and clip them to the image."""
    found = get_box_tensor(coder.decode(priors.reshape(-1, 4), deltas.reshape(-1, 4)))
    height, width = (torch.full((), side, dtype=found.dtype, device=found.device) for side in size)
    limit = torch.stack([width, height, width, height])
    return found.clamp(min=0).minimum(limit).reshape(deltas.shape)


def large_enough(boxes: Tensor, cfg: Any) -> Tensor:
    """Return whether boxes are wider and higher than ``min_bbox_size``."""
    least = cfg.get('min_bbox_size', -1)
    sides = boxes[..., 2:] - boxes[..., :2]
    return (sides > least).all(-1) if least >= 0 else torch.ones_like(sides[..., 0], dtype=torch.bool)


def finish(boxes: Tensor, scores: Tensor, labels: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the ``count`` objects with the highest scores."""
    value, index = top_scores(scores, count)
    found = value > 0
    return (
        gather_rows(boxes, index) * found[..., None],
        value.clamp(min=0),
        torch.where(found, labels.gather(1, index), -1),
    )


def as_list(modules: Any) -> list[Any]:
    """Return the modules of one or several stages as a list."""
    return list(modules) if isinstance(modules, nn.ModuleList) else [modules]
