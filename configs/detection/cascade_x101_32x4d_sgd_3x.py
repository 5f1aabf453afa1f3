"""Cascade Mask R-CNN, ResNeXt-101 32x4d, 3x schedule with SGD: the paper's comparison of optimizers.

Source: Swin paper, Table 9.
Original: 36 epochs, 16 images per step; learning rate, weight decay and hardware were not published.
Expected: box AP 47.8, mask AP 40.4 on val2017 (published; with AdamW 48.1 and 41.6).
Size: 100.9M parameters, 816.8G multiply-adds at 800x1280 (published: 101M, 819G).
Ours: as for ResNet-50, see cascade_r50_sgd_3x.py.
"""

_base_ = './cascade_r50_sgd_3x.py'
_weights = dict(checkpoint='open-mmlab://resnext101_32x4d')
model = dict(backbone=dict(type='ResNeXt', depth=101, groups=32, base_width=4, init_cfg=_weights))
