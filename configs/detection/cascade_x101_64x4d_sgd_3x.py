"""Cascade Mask R-CNN, ResNeXt-101 64x4d, 3x schedule with SGD: the paper's comparison of optimizers.

Source: Swin paper, Table 9.
Original: 36 epochs, 16 images per step; learning rate, weight decay and hardware were not published.
Expected: box AP 48.8, mask AP 41.4 on val2017 (published; with AdamW 48.3 and 41.7).
Size: 140.1M parameters, 969.6G multiply-adds at 800x1280 (published: 140M, 972G).
Ours: as for ResNet-50, see cascade_r50_sgd_3x.py.
"""

_base_ = './cascade_r50_sgd_3x.py'
_weights = dict(checkpoint='open-mmlab://resnext101_64x4d')
model = dict(backbone=dict(type='ResNeXt', depth=101, groups=64, base_width=4, init_cfg=_weights))
