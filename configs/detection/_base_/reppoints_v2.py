"""RepPoints V2 with BiFPN as released by the Swin authors (quality focal loss, GIoU), with ResNet-50.

A config with another backbone must also set the channels of the neck. The released model was trained with short sides
of 480 to 960 pixels in steps of 32 and without crops; the paper's text states 480 to 800.
"""

_norm = dict(type='GN', num_groups=32, requires_grad=True)
model = dict(
    type='RepPointsDetector',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type='ResNet',
        depth=50,
        num_stages=4,
        out_indices=(1, 2, 3),
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=True,
        style='pytorch',
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    ),
    neck=dict(
        type='swin_backbone.BiFPN',
        in_channels=[512, 1024, 2048],
        out_channels=256,
        num_outs=5,
        num_repeat=2,
        norm_cfg=_norm,
    ),
    bbox_head=dict(
        type='swin_backbone.RepPointsV2Head',
        num_classes=80,
        in_channels=256,
        feat_channels=256,
        point_feat_channels=256,
        stacked_convs=3,
        shared_stacked_convs=1,
        corner_dim=64,
        num_points=9,
        gradient_mul=0.1,
        point_strides=[8, 16, 32, 64, 128],
        point_base_scale=4,
        norm_cfg=_norm,
        loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True, beta=2.0, loss_weight=1.0),
        loss_bbox_init=dict(type='swin_backbone.PixelGIoULoss', loss_weight=1.0),
        loss_bbox_refine=dict(type='swin_backbone.PixelGIoULoss', loss_weight=2.0),
        loss_heatmap=dict(type='GaussianFocalLoss', alpha=2.0, gamma=4.0, loss_weight=0.25),
        loss_offset=dict(type='SmoothL1Loss', beta=1.0 / 9.0, loss_weight=1.0),
        loss_sem=dict(type='swin_backbone.SeparateFocalLoss', gamma=2.0, alpha=0.25, loss_weight=0.1),
    ),
    train_cfg=dict(
        init=dict(assigner=dict(type='swin_backbone.PointAssignerV2', scale=4, pos_num=1)),
        heatmap=dict(gaussian_iou=0.7),
        refine=dict(assigner=dict(type='swin_backbone.ATSSAssignerV2', topk=9)),
    ),
    test_cfg=dict(
        nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.6), max_per_img=100
    ),
)
