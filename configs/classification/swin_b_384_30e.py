"""Swin-B at 384 pixels, fine-tuned on ImageNet-1K for 30 epochs from its weights at 224.

Source: Swin paper, section 4.1 and Table 1; the authors' code.
Original: a batch of 1024, mixed precision; the paper states a stochastic depth rate of 0.1.
Expected: top-1 84.5 (published).
Size: 87.9M parameters, 47.1G multiply-adds at 384x384 (published: 88M, 47.0G).
"""

_base_ = [
    './_base_/swin.py',
    './_base_/imagenet_384.py',
    './_base_/adamw_30e.py',
    './_base_/runtime.py',
]

model = dict(
    backbone=dict(
        variant='base',
        drop_path_rate=0.5,
        window_size=12,
        init_cfg=dict(type='Pretrained', checkpoint='swin_b_in1k'),
    ),
    head=dict(in_channels=1024),
)
