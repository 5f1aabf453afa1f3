"""Config for the pre-training of the ablation demo, minutes per run on one CPU core.

The backbone is that of the segmentation demo. Images are not flipped, since that would change their classes.
"""

_base_ = ['./_base_/swin.py', './_base_/shape_classes.py', './_base_/adamw_300e.py', './_base_/runtime.py']

_iterations = 200
_data = dict(data_root='data/orders', pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')])

model = dict(
    data_preprocessor=dict(num_classes=3),
    backbone=dict(
        variant=None,
        embed_dim=32,
        depths=(2, 2, 2, 2),
        num_heads=(1, 2, 4, 8),
        window_size=4,
        drop_path_rate=0.0,
        pretrain_img_size=128,
        small_maps='pad',  # the same window size as in the segmenter
    ),
    head=dict(in_channels=256, num_classes=3),
    train_cfg=None,
)
train_dataloader = dict(dataset=_data)
val_dataloader = dict(dataset=_data)
test_dataloader = val_dataloader
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=_iterations, val_interval=_iterations)
optim_wrapper = dict(
    optimizer=dict(fused=True),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(
        custom_keys={
            'absolute_pos_embed': dict(lr_mult=10.0, decay_mult=0.0),
            'relative_position_bias_table': dict(lr_mult=10.0, decay_mult=0.0),
        }
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=20),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=20, end=_iterations, T_max=_iterations - 20),
]
auto_scale_lr = dict(base_batch_size=32)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(by_epoch=False, interval=_iterations, save_best=None))
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
