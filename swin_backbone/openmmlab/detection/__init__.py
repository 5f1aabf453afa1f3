"""Additions to MMDetection for the paper's detectors; importing this package registers them."""

from swin_backbone.openmmlab.detection import coco_metric, global_block, instaboost, reppoints_v2
from swin_backbone.openmmlab.detection import tta as mask_tta

__all__ = ['coco_metric', 'global_block', 'instaboost', 'mask_tta', 'reppoints_v2']
