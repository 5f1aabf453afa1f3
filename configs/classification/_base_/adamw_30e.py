"""Fine-tuning: 30 epochs of AdamW at 4e-5 for 1024 images per step, 5 of them warm-up, a weight decay of 1e-8.

As in the original code; the Swin paper states a constant learning rate of 1e-5.
"""

_base_ = './adamw_300e.py'

optim_wrapper = dict(optimizer=dict(lr=0.00004, weight_decay=1e-8))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.01,
        by_epoch=True,
        begin=5,
        end=30,
        T_max=25,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=30)
