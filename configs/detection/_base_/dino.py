"""DINO with five scales and Swin-L, and MMDetection's heads, data and 12-epoch schedule."""

_base_ = 'mmdet::dino/dino-5scale_swin-l_8xb2-12e_coco.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='swin_backbone.SwinTransformer',
        variant='large',
        window_size=12,
        drop_path_rate=0.2,
        with_cp=True,
        init_cfg=dict(type='Pretrained', checkpoint='swin_l_384_in22k'),
    )
)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3, save_best='coco/bbox_mAP'))
