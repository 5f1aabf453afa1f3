"""Mask2Former for panoptic segmentation, Swin-S, 50 epochs, ImageNet-1K weights.

Source: MMDetection's config mask2former_swin-s-p4-w7-224_8xb2-lsj-50e_coco-panoptic.
Original: 368750 iterations (50 epochs), 8 A100 GPUs with 2 images each, float32.
Expected: PQ 54.5, box AP 47.8, mask AP 44.5 on val2017 (published by MMDetection; the authors' code has PQ 54.6).
Size: 68.8M parameters, 353.8G multiply-adds at 800x1280 (not published).
"""

_base_ = './_base_/mask2former_panoptic.py'
model = dict(backbone=dict(variant='small', init_cfg=dict(checkpoint='swin_s_in1k')))
