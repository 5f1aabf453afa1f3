"""Cascade Mask R-CNN, ResNeXt-101 64x4d, 3x schedule and AdamW as for Swin-T: the paper's baseline.

Source: Swin paper, Tables 2b and 9.
Original: 36 epochs, 16 images per step; the hardware was not published.
Expected: box AP 48.3, mask AP 41.7 on val2017 (published).
Size: 140.1M parameters, 969.6G multiply-adds at 800x1280 (published: 140M, 972G).
Ours: as for ResNet-50, see cascade_r50_3x.py.
"""

_base_ = './cascade_r50_3x.py'
_weights = dict(checkpoint='open-mmlab://resnext101_64x4d')
model = dict(backbone=dict(type='ResNeXt', depth=101, groups=64, base_width=4, init_cfg=_weights))
