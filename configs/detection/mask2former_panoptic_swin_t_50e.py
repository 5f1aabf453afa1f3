"""Mask2Former for panoptic segmentation, Swin-T, 50 epochs, ImageNet-1K weights.

Source: MMDetection's config mask2former_swin-t-p4-w7-224_8xb2-lsj-50e_coco-panoptic.
Original: 368750 iterations (50 epochs), 8 A100 GPUs with 2 images each, float32.
Expected: PQ 53.4, box AP 46.3, mask AP 43.4 on val2017 (published by MMDetection; the authors' code has PQ 53.2).
Size: 47.4M parameters, 261.8G multiply-adds at 800x1280 (not published).
"""

_base_ = './_base_/mask2former_panoptic.py'
