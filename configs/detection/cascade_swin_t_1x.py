"""Cascade Mask R-CNN, Swin-T, 1x schedule, ImageNet-1K weights, no stochastic depth.

Original: 8 GPUs (V100) with 2 pictures each, 12 epochs, mixed precision.
Released model: box AP 48.1, mask AP 41.7 on val2017 (not in the paper's tables).
"""

_base_ = [
    './_base_/cascade_mask_rcnn.py',
    './_base_/coco_instance.py',
    './_base_/adamw_1x.py',
    './_base_/runtime.py',
]
model = dict(backbone=dict(drop_path_rate=0.0))
