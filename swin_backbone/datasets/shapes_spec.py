"""Former place of :mod:`swin_backbone.datasets.shapes`; delete it once nothing imports it."""

from swin_backbone.datasets.shapes import CLASSES, SEGMENTATION_CLASSES, ShapesSpec

__all__ = ['CLASSES', 'SEGMENTATION_CLASSES', 'ShapesSpec']
