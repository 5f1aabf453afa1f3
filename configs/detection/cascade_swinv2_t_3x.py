"""Cascade Mask R-CNN, Swin V2-T with windows of 16, 3x schedule, ImageNet-1K weights trained with windows of 8.

Source: Swin V2 paper, Table 1 (log-spaced bias, W16); no detection code was published.
Original: 36 epochs, 16 images per step; the hardware was not published.
Expected: box AP 51.1 on val2017 (published).
Size: 85.7M parameters, 762.7G multiply-adds at 800x1280 (not published).
Ours: stochastic depth and output norms as for V1; no weight decay on the position bias MLP and the logit scales.
"""

_base_ = './cascade_swin_t_3x.py'
_v2 = dict(version=2, window_size=16, pretrained_window_sizes=(8, 8, 8, 8))
_undecayed = dict(cpb_mlp=dict(decay_mult=0.0), logit_scale=dict(decay_mult=0.0))
model = dict(backbone=dict(**_v2, init_cfg=dict(checkpoint='swinv2_t_in1k_w8')))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_undecayed))
