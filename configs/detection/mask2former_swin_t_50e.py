"""Mask2Former for instance segmentation, Swin-T, 50 epochs, ImageNet-1K weights.

Source: MMDetection's config mask2former_swin-t-p4-w7-224_8xb2-lsj-50e_coco.
Original: 368750 iterations (50 epochs), 8 A100 GPUs with 2 images each, float32.
Expected: box AP 47.7, mask AP 44.7 on val2017 (published by MMDetection; the authors' code has mask AP 45.0).
Size: 47.4M parameters, 261.7G multiply-adds at 800x1280 (not published).
"""

_base_ = './_base_/mask2former.py'
