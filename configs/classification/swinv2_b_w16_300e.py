"""Swin V2-B on ImageNet-1K at 256 pixels with windows of 16, 300 epochs from scratch.

Source: Swin V2 paper; the authors' released config.
Original: 8 GPUs with 128 images each, mixed precision.
Expected: top-1 84.6 (published).
Size: 87.9M parameters, 22.0G multiply-adds at 256x256 (published: 88M, 21.8G).
"""

_base_ = [
    './_base_/swin.py',
    './_base_/imagenet_256.py',
    './_base_/adamw_300e_v2.py',
    './_base_/runtime.py',
]

model = dict(
    backbone=dict(variant='base', drop_path_rate=0.5, version=2, window_size=16),
    head=dict(in_channels=1024),
)
