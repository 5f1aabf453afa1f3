"""Swin-L on ImageNet-22K, 90 epochs from scratch.

Source: Swin paper, section 4.1; the authors' code.
Original: a batch of 4096, mixed precision.
Expected: no score is published for 22K itself.
Size: 228.6M parameters, 34.5G multiply-adds at 224x224 (not published).
"""

_base_ = [
    './_base_/swin.py',
    './_base_/imagenet_22k.py',
    './_base_/adamw_90e_22k.py',
    './_base_/runtime.py',
]

model = dict(
    data_preprocessor=dict(num_classes=21841),
    backbone=dict(variant='large', drop_path_rate=0.2),
    head=dict(in_channels=1536, num_classes=21841),
)
default_hooks = dict(checkpoint=dict(save_best=None))
