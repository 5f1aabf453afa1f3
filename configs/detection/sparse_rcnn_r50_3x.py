"""Sparse R-CNN with 300 proposals, ResNet-50, 3x schedule and AdamW as for Swin-T: the paper's baseline.

Source: Swin paper, Table 2a; no config was published.
Original: 36 epochs, 16 images per step, AdamW at 1e-4 (paper); the hardware was not published.
Expected: box AP 44.5 on val2017 (published).
Size: 106.3M parameters, 165.4G multiply-adds at 800x1280 (published: 106M, 166G).
Ours: as for Swin-T, see sparse_rcnn_swin_t_3x.py; frozen stem, first stage and batch norm statistics.
"""

_base_ = './sparse_rcnn_swin_t_3x.py'
_weights = dict(type='Pretrained', checkpoint='torchvision://resnet50')
model = dict(
    backbone=dict(_delete_=True, type='ResNet', depth=50, frozen_stages=1, init_cfg=_weights),
    neck=dict(in_channels=[256, 512, 1024, 2048]),
)
