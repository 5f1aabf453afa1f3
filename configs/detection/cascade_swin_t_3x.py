"""Cascade Mask R-CNN, Swin-T, 3x schedule, ImageNet-1K weights.

Original: 8 GPUs (V100) with 2 pictures each, 36 epochs, mixed precision.
Paper, Table 2: box AP 50.5, mask AP 43.7 on val2017; the released model has 50.4 and 43.7.
"""

_base_ = [
    './_base_/cascade_mask_rcnn.py',
    './_base_/coco_instance.py',
    './_base_/adamw_3x.py',
    './_base_/runtime.py',
]
