"""Mask R-CNN with Swin-T, and MMDetection's heads."""

_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='swin_backbone.SwinTransformer',
        variant='tiny',
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint='swin_t_in1k'),
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
