"""What MMSegmentation lacks for the paper's evaluation; importing this package registers it."""

from swin_backbone.openmmlab.segmentation import iou_metric, tta

__all__ = ['iou_metric', 'tta']
