"""Mask2Former, Swin-L with windows of 12, 160k iterations at 640x640, ImageNet-22K weights.

Source: MMSegmentation's config mask2former_swin-l-in22k-384x384-pre_8xb2-160k_ade20k-640x640.
Original: 160k iterations, 8 A100 GPUs with 2 images each, float32.
Expected: mIoU 56.01 (published by MMSegmentation; the authors' code has 56.1, and 57.3 at several scales).
Size: 215.5M parameters, 1514.7G multiply-adds at 640x2560 (not published).
"""

_base_ = './_base_/mask2former_640.py'
model = dict(
    backbone=dict(variant='large', init_cfg=dict(checkpoint='swin_l_384_in22k')),
    decode_head=dict(in_channels=[192, 384, 768, 1536]),
)
