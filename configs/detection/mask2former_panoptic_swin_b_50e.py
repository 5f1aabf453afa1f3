"""Mask2Former for panoptic segmentation, Swin-B with windows of 12, 50 epochs, ImageNet-22K weights.

Source: MMDetection's config mask2former_swin-b-p4-w12-384-in21k_8xb2-lsj-50e_coco-panoptic.
Original: 368750 iterations (50 epochs), 8 A100 GPUs with 2 images each, float32.
Expected: PQ 56.3, box AP 50.0, mask AP 46.3 on val2017 (published by MMDetection; the authors' code has PQ 56.4).
Size: 106.9M parameters, 524.9G multiply-adds at 800x1280 (not published).
"""

_base_ = './_base_/mask2former_panoptic.py'
model = dict(
    backbone=dict(variant='base', window_size=12, init_cfg=dict(checkpoint='swin_b_384_in22k')),
    panoptic_head=dict(in_channels=[128, 256, 512, 1024]),
)
