"""RepPoints V2 with Swin-T and MMDetection's dynamic mask head (CondInst), with the sizes of the authors' release."""

_base_ = './reppoints_v2.py'

model = dict(
    type='CondInst',
    data_preprocessor=dict(pad_mask=True),
    backbone=dict(
        _delete_=True,
        type='swin_backbone.SwinTransformer',
        variant='tiny',
        out_indices=(1, 2, 3),
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint='swin_t_in1k'),
    ),
    neck=dict(in_channels=[192, 384, 768]),
    bbox_head=dict(type='swin_backbone.MaskRepPointsV2Head', num_params=169),
    mask_head=dict(
        type='CondInstMaskHead',
        num_layers=3,
        feat_channels=8,
        size_of_interest=8,
        mask_out_stride=4,
        max_masks_to_train=300,
        mask_feature_head=dict(
            in_channels=256,
            feat_channels=128,
            start_level=0,
            end_level=2,
            out_channels=8,
            mask_stride=8,
            num_stacked_convs=4,
            norm_cfg=dict(type='BN', requires_grad=True),
        ),
        loss_mask=dict(type='DiceLoss', use_sigmoid=True, activate=True, eps=5e-6, loss_weight=1.0),
    ),
    test_cfg=dict(mask_thr=0.5),
)
