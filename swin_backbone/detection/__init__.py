"""What MMDetection lacks for the paper's detectors; importing this package registers it."""

from swin_backbone.detection import coco_metric, global_block, instaboost, mask_tta, reppoints_v2

__all__ = ['coco_metric', 'global_block', 'instaboost', 'mask_tta', 'reppoints_v2']
