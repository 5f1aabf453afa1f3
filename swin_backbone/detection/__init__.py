"""What MMDetection lacks for the paper's detectors; importing this package registers it."""

from swin_backbone.detection import reppoints_v2

__all__ = ['reppoints_v2']
