"""Swin-L at 224 pixels, fine-tuned on ImageNet-1K for 30 epochs from its ImageNet-22K weights.

Source: Swin paper, section 4.1 and Table 1; the authors' code.
Original: a batch of 1024, mixed precision; the paper states a stochastic depth rate of 0.1.
Expected: top-1 86.3 (published).
Size: 196.5M parameters, 34.5G multiply-adds at 224x224 (published: 197M, 34.5G).
"""

_base_ = [
    './_base_/swin.py',
    './_base_/imagenet_224.py',
    './_base_/adamw_30e.py',
    './_base_/runtime.py',
]

model = dict(
    backbone=dict(
        variant='large',
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint='swin_l_in22k'),
    ),
    head=dict(in_channels=1536),
)
