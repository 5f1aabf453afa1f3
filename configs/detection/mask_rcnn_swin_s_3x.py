"""Mask R-CNN, Swin-S, 3x schedule, ImageNet-1K weights.

Source: the authors' released config; not in the paper.
Original: 36 epochs, 8 V100 GPUs with 2 images each, mixed precision.
Expected: box AP 48.5, mask AP 43.3 on val2017 (published with the released model).
Size: 69.1M parameters, 358.6G multiply-adds at 800x1280 (published: 69M, 359G).
"""

_base_ = './mask_rcnn_swin_t_3x.py'
model = dict(backbone=dict(variant='small', init_cfg=dict(checkpoint='swin_s_in1k')))
