"""Coordinates of the views (sizes and flips) of an image in multi-scale testing."""

from typing import Any

from mmdet.structures.bbox import bbox_flip
from torch import Tensor

FLIPPED_AXES = {'horizontal': (-1,), 'vertical': (-2,), 'diagonal': (-2, -1)}


def is_flipped(meta: dict[str, Any]) -> bool:
    """Return whether a view is flipped."""
    return bool(meta.get('flip', False))


def unflipped(meta: dict[str, Any]) -> dict[str, Any]:
    """Return the metainfo of the same view without the flip."""
    return {**meta, 'flip': False, 'flip_direction': None}


def original(meta: dict[str, Any]) -> dict[str, Any]:
    """Return the metainfo of the original image as a view."""
    return {**unflipped(meta), 'img_shape': tuple(meta['ori_shape'][:2]), 'scale_factor': (1.0, 1.0)}


def same_view(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether two views have the same coordinates."""
    direction = one.get('flip_direction') if is_flipped(one) else None
    other_direction = other.get('flip_direction') if is_flipped(other) else None
    return direction == other_direction and tuple(one['scale_factor']) == tuple(other['scale_factor'])


def move_boxes(boxes: Tensor, source: dict[str, Any], target: dict[str, Any]) -> Tensor:
    """Convert boxes ``[n, 4]`` from one view to another; the same tensor if the views are equal."""
    if same_view(source, target):
        return boxes
    if is_flipped(source):
        boxes = bbox_flip(boxes, source['img_shape'], source['flip_direction'])
    ratios = [to / of for to, of in zip(target['scale_factor'], source['scale_factor'], strict=True)]
    boxes = boxes * boxes.new_tensor(ratios * 2)
    if is_flipped(target):
        boxes = bbox_flip(boxes, target['img_shape'], target['flip_direction'])
    return boxes


def unflip_masks(masks: Tensor, meta: dict[str, Any]) -> Tensor:
    """Undo the flip of masks ``[..., h, w]`` of a view."""
    return masks.flip(FLIPPED_AXES[meta['flip_direction']]) if is_flipped(meta) else masks
