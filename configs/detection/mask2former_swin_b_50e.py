"""Mask2Former for instance segmentation, Swin-B with windows of 12, 50 epochs, ImageNet-22K weights.

Source: the authors' model list; MMDetection has no such config.
Original: 50 epochs, 16 images per step.
Expected: mask AP 48.1 on val2017 (published by the authors of Mask2Former; not confirmed here).
Size: 106.9M parameters, 524.9G multiply-adds at 800x1280 (not published).
Ours: MMDetection's settings for Swin-T, with the backbone of its panoptic Swin-B.
"""

_base_ = './_base_/mask2former.py'
model = dict(
    backbone=dict(variant='base', window_size=12, init_cfg=dict(checkpoint='swin_b_384_in22k')),
    panoptic_head=dict(in_channels=[128, 256, 512, 1024]),
)
