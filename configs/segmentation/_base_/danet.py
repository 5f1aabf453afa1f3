"""DANet with ResNet-101 from MMSegmentation, for 150 classes and crops of 512x512."""

_base_ = 'mmseg::_base_/models/danet_r50-d8.py'

model = dict(
    pretrained=None,
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(depth=101, init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://resnet101_v1c')),
    decode_head=dict(num_classes=150),
    auxiliary_head=dict(num_classes=150),
)
