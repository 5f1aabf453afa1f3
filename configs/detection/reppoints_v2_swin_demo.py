"""A small RepPoints V2 on the generated shapes, trained from scratch in minutes on two CPU cores.

Made for `make demo-reppoints`: 128x128 images of six kinds of shapes, a network of 2.8M parameters, no pre-trained
weights. The head is narrower than the paper's, with one convolution per tower and three levels. Measured: 439 s on
two cores; box AP 0.658, AP50 0.921.
"""

_base_ = [
    './_base_/reppoints_v2.py',
    './_base_/shapes_detection.py',
    './_base_/adamw_1x.py',
    './_base_/runtime.py',
]

_width, _classes, _epochs = 64, 6, 12
_norm = dict(type='GN', num_groups=16, requires_grad=True)

model = dict(
    backbone=dict(
        _delete_=True,
        type='swin_backbone.SwinTransformer',
        variant=None,
        embed_dim=32,
        depths=(2, 2, 2, 2),
        num_heads=(1, 2, 4, 8),
        window_size=4,
        out_indices=(1, 2, 3),
        drop_path_rate=0.0,
    ),
    neck=dict(in_channels=[64, 128, 256], out_channels=_width, num_outs=3, num_repeat=1, norm_cfg=_norm),
    bbox_head=dict(
        num_classes=_classes,
        in_channels=_width,
        feat_channels=_width,
        point_feat_channels=_width,
        stacked_convs=1,
        corner_dim=32,
        point_strides=[8, 16, 32],
        point_base_scale=1,
        norm_cfg=_norm,
    ),
    # A scale of two strides assigns objects of 24 to 72 pixels to all three levels, not only to the finest.
    train_cfg=dict(init=dict(assigner=dict(scale=2))),
)

train_cfg = dict(max_epochs=_epochs, val_interval=_epochs // 2)
optim_wrapper = dict(
    optimizer=dict(lr=0.001, fused=True),
    clip_grad=dict(max_norm=10.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, T_max=_epochs, convert_to_iter_based=True),
]
auto_scale_lr = dict(base_batch_size=4)
train_dataloader = dict(batch_size=4)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=_epochs))
randomness = dict(seed=0)
