"""UPerNet, Swin-T, 160k optimizer steps at 512x512 on one GPU, with gradients accumulated to a batch of 16.

Source: upernet_swin_t_160k.py; `--one-gpu` applies the same change to any config.
Original: none; batch, learning rate and schedule in optimizer steps are those of 8 GPUs.
Expected: not published; batch norms of the heads are computed over 2 images instead of 16.
Size: 59.9M parameters, 944.4G multiply-adds at 512x2048 (published: 60M, 945G).
"""

_base_ = './upernet_swin_t_160k.py'
_warm_up, _decay = _base_.param_scheduler
optim_wrapper = dict(accumulative_counts=8)
param_scheduler = [dict(_warm_up, end=12_000), dict(_decay, end=1_280_000)]
train_cfg = dict(max_iters=1_280_000, val_interval=128_000)
default_hooks = dict(checkpoint=dict(interval=128_000))
