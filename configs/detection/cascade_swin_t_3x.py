"""Cascade Mask R-CNN, Swin-T, 3x schedule, ImageNet-1K weights.

Source: Swin paper, section 4.2, Tables 2a and 2b; the authors' released config.
Original: 36 epochs, 8 V100 GPUs with 2 images each, mixed precision.
Expected: box AP 50.5, mask AP 43.7 on val2017 (published; the released model has 50.4 and 43.7).
Size: 85.6M parameters, 744.8G multiply-adds at 800x1280 (published: 86M, 745G).
"""

_base_ = [
    './_base_/cascade_mask_rcnn.py',
    './_base_/coco_instance.py',
    './_base_/adamw_3x.py',
    './_base_/runtime.py',
]
