"""Cascade Mask R-CNN, ResNeXt-101 32x4d, 3x schedule and AdamW as for Swin-T: the paper's baseline.

Source: Swin paper, Tables 2b and 9.
Original: 36 epochs, 16 images per step; the hardware was not published.
Expected: box AP 48.1, mask AP 41.6 on val2017 (published).
Size: 100.9M parameters, 816.8G multiply-adds at 800x1280 (published: 101M, 819G).
Ours: as for ResNet-50, see cascade_r50_3x.py.
"""

_base_ = './cascade_r50_3x.py'
_weights = dict(checkpoint='open-mmlab://resnext101_32x4d')
model = dict(backbone=dict(type='ResNeXt', depth=101, groups=32, base_width=4, init_cfg=_weights))
