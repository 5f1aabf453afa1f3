"""Cascade Mask R-CNN, Swin-B, 3x schedule, ImageNet-1K weights, stochastic depth rate 0.3.

Source: Swin paper, Table 2b; the authors' released config (stochastic depth rate 0.3, not the text's 0.2).
Original: 36 epochs, 8 V100 GPUs with 2 images each, mixed precision.
Expected: box AP 51.9, mask AP 45.0 on val2017 (published; the released model has the same).
Size: 145.0M parameters, 981.3G multiply-adds at 800x1280 (published: 145M, 982G).
"""

_base_ = './cascade_swin_t_3x.py'
model = dict(
    backbone=dict(variant='base', drop_path_rate=0.3, init_cfg=dict(checkpoint='swin_b_in1k')),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)
