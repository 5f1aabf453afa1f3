"""Mask RepPoints V2 with BiFPN, Swin-T, 3x schedule, ImageNet-1K weights.

Source: the authors' released config; not in the paper.
Original: 36 epochs, 8 V100 GPUs with 2 images each, mixed precision.
Expected: box AP 50.4, mask AP 43.8 on val2017 (published with the released model; 50.3 and 43.6 in another list).
Size: 46.8M parameters, 305.9G multiply-adds at 800x1280 (published: 47M, 292G).
Ours: MMDetection's mask head: no auxiliary masks; cells are chosen by the centres of boxes, not of masks.
"""

_base_ = [
    './_base_/mask_reppoints_v2.py',
    './_base_/coco_instance_960.py',
    './_base_/adamw_3x.py',
    './_base_/runtime.py',
]
