"""UPerNet, Swin-B, 160k iterations at 640x640, ImageNet-22K weights.

Source: Swin paper, section 4.3, Table 3; no config was published.
Original: 160k iterations, 8 V100 GPUs with 2 images each.
Expected: mIoU 50.04 single-scale, 51.66 multi-scale with flips (published with the scores of the release).
Size: 121.3M parameters, 1839.2G multiply-adds at 640x2560 (published: 121M, 1841G).
Ours: everything except crop and weights as for 512x512, including the stochastic depth rate of 0.3.
"""

_base_ = ['./_base_/upernet_640.py', './_base_/ade20k_640.py', './_base_/adamw_160k.py', './_base_/runtime.py']
model = dict(
    backbone=dict(variant='base', init_cfg=dict(checkpoint='swin_b_in22k')),
    decode_head=dict(in_channels=[128, 256, 512, 1024]),
    auxiliary_head=dict(in_channels=512),
)
