"""A small classifier on generated images of single shapes, trained from scratch in minutes on one CPU core.

Six classes of 64x64 pixels; a backbone of 2.3M parameters. Measured: 303 s on one core of a busy machine; top-1 0.739.
"""

_base_ = [
    './_base_/swin.py',
    './_base_/shape_classes.py',
    './_base_/adamw_300e.py',
    './_base_/runtime.py',
]

_epochs = 8

model = dict(
    data_preprocessor=dict(num_classes=6),
    backbone=dict(
        variant=None,
        embed_dim=32,
        depths=(2, 2, 2, 2),
        num_heads=(1, 2, 4, 8),
        window_size=4,
        drop_path_rate=0.0,
    ),
    head=dict(in_channels=256, num_classes=6),
    train_cfg=None,
)
train_cfg = dict(max_epochs=_epochs, val_interval=_epochs // 2)
optim_wrapper = dict(optimizer=dict(fused=True))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, T_max=_epochs, convert_to_iter_based=True),
]
auto_scale_lr = dict(base_batch_size=32)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=_epochs))
randomness = dict(seed=0)
