"""Cascade Mask R-CNN, Swin-S, 3x schedule, ImageNet-1K weights.

Source: Swin paper, Table 2b; the authors' released config.
Original: 36 epochs, 8 V100 GPUs with 2 images each, mixed precision.
Expected: box AP 51.8, mask AP 44.7 on val2017 (published; the released model has 51.9 and 45.0).
Size: 106.9M parameters, 836.8G multiply-adds at 800x1280 (published: 107M, 838G).
"""

_base_ = './cascade_swin_t_3x.py'
model = dict(backbone=dict(variant='small', init_cfg=dict(checkpoint='swin_s_in1k')))
