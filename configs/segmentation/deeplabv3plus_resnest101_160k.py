"""DeepLabV3+, ResNeSt-101, 160k iterations at 512x512 with SGD: for comparison in the paper's Table 3.

Source: Swin paper, Table 3, with the mIoU of earlier work; model and recipe are MMSegmentation's.
Original: 160k iterations, 4 GPUs with 4 images each.
Expected: mIoU 46.9 (published in the paper; MMSegmentation: 46.47 single-scale, 47.27 multi-scale with flips).
Size: 66.4M parameters, 1049.9G multiply-adds at 512x2048 (published: 66M, 1051G).
"""

_base_ = './deeplabv3plus_r101_160k.py'
_split = dict(type='ResNeSt', stem_channels=128, radix=2, reduction_factor=4, avg_down_stride=True)
model = dict(backbone=dict(**_split, init_cfg=dict(checkpoint='open-mmlab://resnest101')))
