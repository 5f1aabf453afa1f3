"""DeepLabV3+, ResNet-101, 160k iterations at 512x512 with SGD: a peer in the paper's table.

Source: Swin paper, Table 3, which took the mIoU of earlier work; model and recipe here are MMSegmentation's.
Original: 160k iterations, 4 GPUs with 4 images each.
Expected: mIoU 44.1 (published in the paper; by MMSegmentation 45.47 at one scale, 46.35 at several with flips).
Size: 62.7M parameters, 1019.3G multiply-adds at 512x2048 (published: 63M, 1021G).
"""

_base_ = [
    'mmseg::_base_/models/deeplabv3plus_r50-d8.py',
    './_base_/ade20k_512.py',
    './_base_/sgd_160k.py',
    './_base_/runtime.py',
]
_weights = dict(type='Pretrained', checkpoint='open-mmlab://resnet101_v1c')
_heads = dict(decode_head=dict(num_classes=150), auxiliary_head=dict(num_classes=150))
_backbone = dict(depth=101, init_cfg=_weights)
model = dict(pretrained=None, data_preprocessor=dict(size=(512, 512)), backbone=_backbone, **_heads)
