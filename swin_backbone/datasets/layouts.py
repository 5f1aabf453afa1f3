"""Former place of :mod:`swin_backbone.datasets.generated`; delete it once nothing imports it."""

from swin_backbone.datasets.generated import mask_to_rle

__all__ = ['mask_to_rle']
