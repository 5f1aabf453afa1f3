"""UPerNet, Swin-B, 160k iterations at 512x512, ImageNet-1K weights.

Source: the authors' released config; not in the paper.
Original: 160k iterations, 8 V100 GPUs with 2 images each, float32.
Expected: mIoU 48.13 single-scale, 49.72 multi-scale with flips (published with the released model).
Size: 121.3M parameters, 1187.4G multiply-adds at 512x2048 (published: 121M, 1188G).
"""

_base_ = './upernet_swin_t_160k.py'
model = dict(
    backbone=dict(variant='base', init_cfg=dict(checkpoint='swin_b_in1k')),
    decode_head=dict(in_channels=[128, 256, 512, 1024]),
    auxiliary_head=dict(in_channels=512),
)
