"""Swin Transformer backbones for dense prediction, with plugs for MMDetection and MMSegmentation.

Importing this package needs PyTorch alone; the toolkits find it by themselves through :mod:`swin_backbone.registry`.
"""

from swin_backbone.backbone import SwinTransformer
from swin_backbone.checkpoint import LoadReport, load_pretrained
from swin_backbone.variants import VARIANTS

__version__ = '0.1.0'
__all__ = ['VARIANTS', 'LoadReport', 'SwinTransformer', '__version__', 'load_pretrained']
