"""RTMDet-L with Swin-B, and MMDetection's heads, data and schedule."""

_base_ = 'mmdet::rtmdet/rtmdet_l_swin_b_4xb32-100e_coco.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='swin_backbone.SwinTransformer',
        variant='base',
        window_size=12,
        out_indices=(1, 2, 3),
        drop_path_rate=0.3,
        with_cp=True,
        init_cfg=dict(type='Pretrained', checkpoint='swin_b_384_in22k'),
    )
)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3, save_best='coco/bbox_mAP'))
