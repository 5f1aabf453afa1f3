"""What MMDetection lacks for the paper's detectors; importing this package registers it."""

import swin_backbone.openmmlab  # noqa: F401  serves mmcv's operators
from swin_backbone.detection import coco_metric, global_block, instaboost, mask_tta, reppoints_v2

__all__ = ['coco_metric', 'global_block', 'instaboost', 'mask_tta', 'reppoints_v2']
