"""DeepLabV3+, ResNeSt-200, 160k iterations at 512x512 with SGD: for comparison in the paper's Table 3.

Source: Swin paper, Table 3, with the mIoU of earlier work; model and recipe are MMSegmentation's.
Original: not in MMSegmentation's model list; the recipe of ResNeSt-101.
Expected: mIoU 48.4 (published in the paper).
Size: 88.3M parameters, 1378.5G multiply-adds at 512x2048 (published: 88M, 1381G).
"""

_base_ = './deeplabv3plus_resnest101_160k.py'
model = dict(backbone=dict(depth=200, init_cfg=dict(checkpoint='open-mmlab://resnest200')))
