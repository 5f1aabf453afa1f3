"""Mask R-CNN, Swin-T, 1x schedule, ImageNet-1K weights, stochastic depth rate 0.1.

Source: the authors' released config; not in the paper.
Original: 12 epochs, 8 V100 GPUs with 2 images each, mixed precision.
Expected: box AP 43.7, mask AP 39.8 on val2017 (published with the released model).
Size: 47.8M parameters, 266.6G multiply-adds at 800x1280 (published: 48M, 267G).
"""

_base_ = [
    './_base_/mask_rcnn.py',
    './_base_/coco_instance.py',
    './_base_/adamw_1x.py',
    './_base_/runtime.py',
]
model = dict(backbone=dict(drop_path_rate=0.1))
