"""Cascade Mask R-CNN, Swin V2-B with windows of 16, 3x schedule, ImageNet-1K weights trained with windows of 8.

Source: Swin V2 paper, ablation settings; no detection code was published.
Original: 36 epochs, 16 images per step; the hardware was not published.
Expected: no score that could be confirmed; above the 51.9 box AP of V1 (cascade_swin_b_3x.py).
Size: 145.1M parameters, 1025.3G multiply-adds at 800x1280 (not published).
Ours: as for Swin V2-T, with the stochastic depth of V1's base model.
"""

_base_ = './cascade_swinv2_t_3x.py'
model = dict(
    backbone=dict(variant='base', drop_path_rate=0.3, init_cfg=dict(checkpoint='swinv2_b_in1k_w8')),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)
