"""Mask2Former, Swin-B with windows of 12, 160k iterations at 640x640, ImageNet-22K weights.

Source: MMSegmentation's config mask2former_swin-b-in22k-384x384-pre_8xb2-160k_ade20k-640x640.
Original: 160k iterations, 8 A100 GPUs with 2 images each, float32.
Expected: mIoU 53.90 (published by MMSegmentation; the authors' code has 53.9, and 55.1 at several scales).
Size: 106.9M parameters, 831.7G multiply-adds at 640x2560 (not published).
"""

_base_ = './_base_/mask2former_640.py'
