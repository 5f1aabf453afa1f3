"""Cascade Mask R-CNN, Swin-T, 1x schedule, ImageNet-1K weights, no stochastic depth.

Source: the authors' released config; not in the paper.
Original: 12 epochs, 8 V100 GPUs with 2 images each, mixed precision.
Expected: box AP 48.1, mask AP 41.7 on val2017 (published with the released model).
Size: 85.6M parameters, 744.8G multiply-adds at 800x1280 (published: 86M, 745G).
"""

_base_ = [
    './_base_/cascade_mask_rcnn.py',
    './_base_/coco_instance.py',
    './_base_/adamw_1x.py',
    './_base_/runtime.py',
]
model = dict(backbone=dict(drop_path_rate=0.0))
