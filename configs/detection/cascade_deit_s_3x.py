"""Cascade Mask R-CNN, DeiT-S with a pyramid by deconvolution, 3x schedule as for Swin-T: the paper's baseline.

Source: Swin paper, Table 2b.
Original: 36 epochs, 16 images per step; the hardware was not published.
Expected: box AP 48.0, mask AP 41.4 on val2017 (published; the layout of the pyramid here is a guess).
Size: 80.3M parameters, 886.3G multiply-adds at 800x1280 (published: 80M, 889G).
Ours: the pyramid, chosen by its size (see swin_backbone/backbones/deit.py), and DeiT's stochastic depth rate of 0.1.
"""

_base_ = './cascade_swin_t_3x.py'
_weights = 'https://dl.fbaipublicfiles.com/deit/deit_small_patch16_224-cd65a155.pth'
_deit = dict(type='swin_backbone.DeiTPyramid', init_cfg=dict(type='Pretrained', checkpoint=_weights))
_undecayed = dict(pos_embed=dict(decay_mult=0.0), cls_token=dict(decay_mult=0.0))
model = dict(backbone=dict(_delete_=True, **_deit), neck=dict(in_channels=[96, 192, 384, 384]))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_undecayed))
