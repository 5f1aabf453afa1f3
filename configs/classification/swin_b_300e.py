"""Swin-B on ImageNet-1K, 300 epochs from scratch.

Source: Swin paper, section 4.1 and Table 1; the authors' code.
Original: 8 GPUs with 128 images each, mixed precision.
Expected: top-1 83.5 (published; so has the released model).
Size: 87.8M parameters, 15.4G multiply-adds at 224x224 (published: 88M, 15.4G).
"""

_base_ = [
    './_base_/swin.py',
    './_base_/imagenet_224.py',
    './_base_/adamw_300e.py',
    './_base_/runtime.py',
]

model = dict(
    backbone=dict(variant='base', drop_path_rate=0.5),
    head=dict(in_channels=1024),
)
