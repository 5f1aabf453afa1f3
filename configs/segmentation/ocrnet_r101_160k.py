"""OCRNet, ResNet-101, 160k iterations at 512x512 with SGD: a peer in the paper's table.

Source: Swin paper, Table 3, which took the mIoU of earlier work; the model here is MMSegmentation's.
Original: MMSegmentation trained it on Cityscapes alone; the recipe is that of its other networks on ADE20K.
Expected: mIoU 45.3 (published in the paper).
Size: 55.6M parameters, 925.7G multiply-adds at 512x2048 (published: 56M, 923G).
"""

_base_ = [
    'mmseg::_base_/models/ocrnet_r50-d8.py',
    './_base_/ade20k_512.py',
    './_base_/sgd_160k.py',
    './_base_/runtime.py',
]
_weights = dict(type='Pretrained', checkpoint='open-mmlab://resnet101_v1c')
_heads = [dict(head, num_classes=150) for head in _base_.model.decode_head]
_sizes = dict(data_preprocessor=dict(size=(512, 512)), decode_head=_heads)
model = dict(pretrained=None, backbone=dict(depth=101, init_cfg=_weights), **_sizes)
