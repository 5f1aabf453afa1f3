"""ATSS, ResNet-50, 3x schedule and AdamW as for Swin-T: the paper's baseline.

Source: Swin paper, Table 2a; no config was published.
Original: 36 epochs, 16 images per step; the hardware was not published.
Expected: box AP 43.5 on val2017 (published).
Size: 32.3M parameters, 204.5G multiply-adds at 800x1280 (published: 32M, 205G).
Ours: as for Swin-T, see atss_swin_t_3x.py; frozen stem, first stage and batch norm statistics.
"""

_base_ = './atss_swin_t_3x.py'
_weights = dict(type='Pretrained', checkpoint='torchvision://resnet50')
model = dict(
    backbone=dict(_delete_=True, type='ResNet', depth=50, out_indices=(1, 2, 3), frozen_stages=1, init_cfg=_weights),
    neck=dict(in_channels=[512, 1024, 2048]),
)
