"""RepPoints V2 (Chen et al., NeurIPS 2020) for MMDetection 3, as the Swin paper's Table 2 uses it."""

from swin_backbone.openmmlab.detection.reppoints_v2.assigners import ATSSAssignerV2, PointAssignerV2
from swin_backbone.openmmlab.detection.reppoints_v2.bifpn import BiFPN
from swin_backbone.openmmlab.detection.reppoints_v2.head import RepPointsV2Head
from swin_backbone.openmmlab.detection.reppoints_v2.losses import PixelGIoULoss, SeparateFocalLoss
from swin_backbone.openmmlab.detection.reppoints_v2.masks import MaskRepPointsV2Head

__all__ = [
    'ATSSAssignerV2',
    'BiFPN',
    'MaskRepPointsV2Head',
    'PixelGIoULoss',
    'PointAssignerV2',
    'RepPointsV2Head',
    'SeparateFocalLoss',
]
