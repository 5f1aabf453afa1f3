"""40k iterations as in the Swin V2 paper for Swin V2-L: AdamW at 6e-5 and weight decay 0.05 for 64 images per step."""

_base_ = './adamw_160k_v2.py'

train_cfg = dict(max_iters=40000, val_interval=4000)
optim_wrapper = dict(optimizer=dict(lr=0.00006))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=375),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=0, end=40000, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=4000))
auto_scale_lr = dict(base_batch_size=64)
