"""Mask2Former for instance segmentation with Swin-T, and MMDetection's heads, data and schedule.

The backbone has a tenth of the learning rate, and no weight decay on its norms and bias tables.
"""

_base_ = 'mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py'

_undecayed = dict(lr_mult=0.1, decay_mult=0.0)

model = dict(
    backbone=dict(
        _delete_=True,
        type='swin_backbone.SwinTransformer',
        variant='tiny',
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint='swin_t_in1k'),
    ),
    panoptic_head=dict(in_channels=[96, 192, 384, 768]),
)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={
            'backbone.norm': _undecayed,
            'backbone.patch_embed.norm': _undecayed,
            'norm1.weight': _undecayed,
            'norm1.bias': _undecayed,
            'norm2.weight': _undecayed,
            'norm2.bias': _undecayed,
            'downsample.norm': _undecayed,
            'absolute_pos_embed': _undecayed,
            'relative_position_bias_table': _undecayed,
        }
    )
)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3, save_best='coco/segm_mAP'))
