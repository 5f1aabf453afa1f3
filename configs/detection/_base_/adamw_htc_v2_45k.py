"""45,000 steps of AdamW at 6e-4 and weight decay 0.05 for 96 images per step; otherwise as for 36 epochs.

The learning rate milestones were not published; they are at the same fractions of the schedule as in 36 epochs.
"""

_base_ = './adamw_htc_v2.py'

train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=45000, val_interval=5000)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=45000, by_epoch=False, milestones=[33750, 41250], gamma=0.1),
]
optim_wrapper = dict(optimizer=dict(lr=0.0006))
auto_scale_lr = dict(base_batch_size=96)
