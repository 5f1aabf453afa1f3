"""Mask2Former, Swin-T, 160k iterations at 512x512, ImageNet-1K weights.

Source: MMSegmentation's config mask2former_swin-t_8xb2-160k_ade20k-512x512.
Original: 160k iterations, 8 A100 GPUs with 2 images each, float32.
Expected: mIoU 48.66 (published by MMSegmentation; the authors' code has 47.7, and 49.6 at several scales).
Size: 47.4M parameters, 269.1G multiply-adds at 512x2048 (not published).
"""

_base_ = './_base_/mask2former.py'
