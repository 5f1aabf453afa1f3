"""Mask2Former, Swin-S, 160k iterations at 512x512, ImageNet-1K weights.

Source: MMSegmentation's config mask2former_swin-s_8xb2-160k_ade20k-512x512.
Original: 160k iterations, 8 A100 GPUs with 2 images each, float32.
Expected: mIoU 51.24 (published by MMSegmentation; the authors' code has 51.3, and 52.4 at several scales).
Size: 68.8M parameters, 362.2G multiply-adds at 512x2048 (not published).
"""

_base_ = './_base_/mask2former.py'
model = dict(backbone=dict(variant='small', init_cfg=dict(checkpoint='swin_s_in1k')))
