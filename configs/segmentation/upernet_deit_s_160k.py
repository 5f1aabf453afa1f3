"""UPerNet, DeiT-S with a pyramid by deconvolution, 160k iterations at 512x512: the paper's baseline.

Source: Swin paper, Table 3.
Original: 160k iterations, 16 images per step; the hardware was not published.
Expected: mIoU 44.0 at several scales with flips (published; the layout of the pyramid here is a guess).
Size: 52.2M parameters, 1090.1G multiply-adds at 512x2048 (published: 52M, 1099G).
Ours: the pyramid, chosen by its size (see swin_backbone/backbones/deit.py), and DeiT's stochastic depth rate of 0.1.
"""

_base_ = './upernet_swin_t_160k.py'
_weights = 'https://dl.fbaipublicfiles.com/deit/deit_small_patch16_224-cd65a155.pth'
_deit = dict(type='swin_backbone.DeiTPyramid', init_cfg=dict(type='Pretrained', checkpoint=_weights))
_undecayed = dict(pos_embed=dict(decay_mult=0.0), cls_token=dict(decay_mult=0.0))
model = dict(backbone=dict(_delete_=True, **_deit), decode_head=dict(in_channels=[96, 192, 384, 384]))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_undecayed))
