"""Swin-Mixer-T with 24 channels per head on ImageNet-1K at 256 pixels, 300 epochs from scratch.

Source: Swin paper, Table 10; the authors' released config (swin_mlp_tiny_c24_patch4_window8_256).
Original: 8 GPUs with 128 images each, mixed precision.
Expected: top-1 79.4 (published).
Size: 20.4M parameters, 4.0G multiply-adds at 256x256 (published: 20M, 4.0G).
"""

_base_ = [
    './_base_/swin.py',
    './_base_/imagenet_256.py',
    './_base_/adamw_300e.py',
    './_base_/runtime.py',
]

model = dict(
    backbone=dict(
        _delete_=True, type='swin_backbone.SwinMixer', variant='tiny_c24', drop_path_rate=0.2, out_indices=(3,)
    )
)
