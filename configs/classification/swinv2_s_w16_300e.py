"""Swin V2-S on ImageNet-1K at 256 pixels with windows of 16, 300 epochs from scratch.

Source: Swin V2 paper; the authors' released config.
Original: 8 GPUs with 128 images each, mixed precision.
Expected: top-1 84.1 (published).
Size: 49.7M parameters, 12.8G multiply-adds at 256x256 (published: 50M, 12.6G).
"""

_base_ = [
    './_base_/swin.py',
    './_base_/imagenet_256.py',
    './_base_/adamw_300e_v2.py',
    './_base_/runtime.py',
]

model = dict(
    backbone=dict(variant='small', drop_path_rate=0.3, version=2, window_size=16),
)
