"""Cascade Mask R-CNN, ResNet-50, 3x schedule with SGD: the paper's comparison of optimizers.

Source: Swin paper, Table 9.
Original: 36 epochs, 16 images per step; learning rate, weight decay and hardware were not published.
Expected: box AP 45.0, mask AP 38.5 on val2017 (published; with AdamW 46.3 and 40.1).
Size: 82.2M parameters, 737.6G multiply-adds at 800x1280 (published: 82M, 739G).
Ours: MMDetection's SGD; everything else as with AdamW, see cascade_r50_3x.py.
"""

_base_ = './cascade_r50_3x.py'
_sgd = dict(_delete_=True, type='SGD', lr=0.02, momentum=0.9, weight_decay=0.0001)
optim_wrapper = dict(optimizer=_sgd, paramwise_cfg=None)
