"""What the paper compares with and the toolkits lack."""

from swin_backbone.baselines.deit import DeiTPyramid

__all__ = ['DeiTPyramid']
