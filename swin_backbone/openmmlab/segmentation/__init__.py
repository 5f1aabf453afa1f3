"""What MMSegmentation lacks for the paper's evaluation; importing this package registers it."""

import swin_backbone.openmmlab  # noqa: F401  serves mmcv's operators
from swin_backbone.openmmlab.segmentation import iou_metric, tta

__all__ = ['iou_metric', 'tta']
