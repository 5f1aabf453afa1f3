"""Config of the ablation demo for segmentation, two minutes per run on one CPU core.

The head has only 1x1 convolutions (SegFormer's), so only the backbone can carry information between places and encode
positions. Position embeddings and biases have ten times the learning rate, because the training is short.
"""

_base_ = [
    './_base_/upernet.py',
    './_base_/neighbours_semantic.py',
    './_base_/adamw_160k.py',
    './_base_/runtime.py',
]

_iterations = 600

model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(
        variant=None,
        embed_dim=32,
        depths=(2, 2, 2, 2),
        num_heads=(1, 2, 4, 8),
        window_size=4,
        drop_path_rate=0.0,
        pretrain_img_size=128,
        init_cfg=None,
    ),
    decode_head=dict(
        _delete_=True,
        type='SegformerHead',
        in_channels=[32, 64, 128, 256],
        in_index=[0, 1, 2, 3],
        channels=64,
        dropout_ratio=0.0,
        num_classes=4,
        norm_cfg=dict(type='BN'),
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    auxiliary_head=None,
)

train_cfg = dict(max_iters=_iterations, val_interval=_iterations)
optim_wrapper = dict(
    optimizer=dict(lr=0.001, fused=True),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(
        custom_keys={
            'absolute_pos_embed': dict(lr_mult=10.0),
            'relative_position_bias_table': dict(lr_mult=10.0),
        }
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=50, end=_iterations, T_max=_iterations - 50),
]
auto_scale_lr = dict(base_batch_size=8)
default_hooks = dict(logger=dict(interval=50), checkpoint=dict(interval=_iterations // 2))
randomness = dict(seed=0)
