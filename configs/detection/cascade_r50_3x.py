"""Cascade Mask R-CNN, ResNet-50, 3x schedule and AdamW as for Swin-T: the paper's baseline.

Source: Swin paper, Tables 2a, 2b and 9.
Original: 36 epochs, 16 images per step; the hardware was not published.
Expected: box AP 46.3, mask AP 40.1 on val2017 (published).
Size: 82.2M parameters, 737.6G multiply-adds at 800x1280 (published: 82M, 739G).
Ours: MMDetection's defaults, frozen stem, first stage and batch norm statistics; the paper's settings are unknown.
"""

_base_ = './cascade_swin_t_3x.py'
_weights = dict(type='Pretrained', checkpoint='torchvision://resnet50')
model = dict(
    backbone=dict(_delete_=True, type='ResNet', depth=50, frozen_stages=1, init_cfg=_weights),
    neck=dict(in_channels=[256, 512, 1024, 2048]),
)
