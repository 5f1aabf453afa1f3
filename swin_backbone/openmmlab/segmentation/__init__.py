"""Additions to MMSegmentation for the paper's evaluation; importing this package registers them."""

from swin_backbone.openmmlab.segmentation import iou_metric, tta

__all__ = ['iou_metric', 'tta']
