"""90 epochs of AdamW at 1e-3 for 4096 images per step, 5 of them warm-up.

The original code has a weight decay of 0.05 and a cosine schedule; the Swin paper states 0.01 and a linear decay.
"""

_base_ = './adamw_300e.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.01,
        by_epoch=True,
        begin=5,
        end=90,
        T_max=85,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=90)
val_cfg = None
test_cfg = None
auto_scale_lr = dict(base_batch_size=4096)
