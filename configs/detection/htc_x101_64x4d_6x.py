"""HTC++, ResNeXt-101 64x4d, 6x schedule as for Swin-B: the paper's baseline, with stuff maps and InstaBoost.

Source: Swin paper, Table 2c; neither code nor config was published.
Original: 72 epochs; batch and hardware were not published.
Expected: box AP 52.3, mask AP 46.0 on val2017 (published; not confirmed with the choices made here).
Size: 155.4M parameters, 1031.4G multiply-adds at 800x1280 (published: 155M, 1033G).
Ours: as for Swin-B; an extra block of 1024 channels, to match the published size, after a grouped convolution.
"""

_base_ = './htc_swin_b_6x.py'
_weights = dict(type='Pretrained', checkpoint='open-mmlab://resnext101_64x4d')
_resnext = dict(type='ResNeXt', depth=101, groups=64, base_width=4, frozen_stages=1)
_block = dict(type='swin_backbone.GlobalBlockNeck', in_channels=2048, width=1024, reduction_groups=64, num_heads=32)
_fpn = dict(type='FPN', in_channels=[256, 512, 1024, 1024], out_channels=256, num_outs=5)
model = dict(backbone=dict(_delete_=True, **_resnext, init_cfg=_weights), neck=[_block, _fpn])
