"""DINO with five scales on Swin-L, with MMDetection's heads, data and schedule of 12 epochs."""

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
