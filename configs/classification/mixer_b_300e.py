"""Swin-Mixer-B on ImageNet-1K, 300 epochs from scratch.

Source: Swin paper, Table 10; the authors' released config (swin_mlp_base_patch4_window7_224).
Original: 8 GPUs with 128 images each, mixed precision.
Expected: top-1 81.3 (published).
Size: 60.7M parameters, 10.4G multiply-adds at 224x224 (published: 61M, 10.4G).
"""

_base_ = [
    './_base_/swin.py',
    './_base_/imagenet_224.py',
    './_base_/adamw_300e.py',
    './_base_/runtime.py',
]

model = dict(
    backbone=dict(_delete_=True, type='swin_backbone.SwinMixer', variant='base', drop_path_rate=0.5, out_indices=(3,)),
    head=dict(in_channels=1024),
)
