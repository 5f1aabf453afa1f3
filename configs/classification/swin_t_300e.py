"""Swin-T on ImageNet-1K, 300 epochs from scratch.

Source: Swin paper, section 4.1 and Table 1; the authors' code.
Original: 8 GPUs with 128 images each, mixed precision.
Expected: top-1 81.3 (published; the released model has 81.2).
Size: 28.3M parameters, 4.5G multiply-adds at 224x224 (published: 29M, 4.5G).
"""

_base_ = [
    './_base_/swin.py',
    './_base_/imagenet_224.py',
    './_base_/adamw_300e.py',
    './_base_/runtime.py',
]

model = dict(
    backbone=dict(variant='tiny', drop_path_rate=0.2),
)
