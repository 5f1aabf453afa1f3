"""Cascade Mask R-CNN, Swin-T, 3x schedule on one GPU, with gradients accumulated to a batch of 16.

Source: cascade_swin_t_3x.py; `--one-gpu` applies the same change to any config.
Original: none; batch, learning rate and schedule in optimizer steps are those of 8 GPUs.
Expected: not published; batch norms of the box heads are computed over 2 images instead of 16.
Size: 85.6M parameters, 744.8G multiply-adds at 800x1280 (published: 86M, 745G).
"""

_base_ = './cascade_swin_t_3x.py'
optim_wrapper = dict(accumulative_counts=8)
param_scheduler = [dict(_base_.param_scheduler[0], end=4000), _base_.param_scheduler[1]]
