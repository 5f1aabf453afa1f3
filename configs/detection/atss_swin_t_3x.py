"""ATSS, Swin-T, 3x schedule, ImageNet-1K weights.

Source: Swin paper, Table 2a; no config was published.
Original: 36 epochs, 16 images per step; the hardware was not published.
Expected: box AP 47.2 on val2017 (published; a third party reports 43.7 after 12 epochs at one scale).
Size: 35.7M parameters, 214.3G multiply-adds at 800x1280 (published: 36M, 215G).
Ours: MMDetection's ATSS, which matches the published size, and the images of Cascade Mask R-CNN.
"""

_base_ = [
    './_base_/atss.py',
    './_base_/coco_detection.py',
    './_base_/adamw_3x.py',
    './_base_/runtime.py',
]
