"""Mask2Former with Swin-B at 640x640, and MMSegmentation's heads, data and schedule.

The backbone has a tenth of the learning rate, and no weight decay on its norms and bias tables.
"""

_base_ = 'mmseg::mask2former/mask2former_swin-b-in22k-384x384-pre_8xb2-160k_ade20k-640x640.py'

_undecayed = dict(lr_mult=0.1, decay_mult=0.0)

model = dict(
    backbone=dict(
        _delete_=True,
        type='swin_backbone.SwinTransformer',
        variant='base',
        window_size=12,
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint='swin_b_384_in22k'),
    )
)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={
            '_delete_': True,
            'backbone': dict(lr_mult=0.1, decay_mult=1.0),
            'query_embed': dict(lr_mult=1.0, decay_mult=0.0),
            'query_feat': dict(lr_mult=1.0, decay_mult=0.0),
            'level_embed': dict(lr_mult=1.0, decay_mult=0.0),
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
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3, save_best='mIoU'))
