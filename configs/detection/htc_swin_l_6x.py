"""HTC++, Swin-L, 6x schedule, ImageNet-22K weights, with stuff maps and InstaBoost.

Source: Swin paper, section 4.2 and appendix A2.2, Table 2c; neither code nor config was published.
Original: 72 epochs in the paper, 36 in the authors' model list; batch and hardware were not published.
Expected: box AP 57.1, mask AP 49.5 on val2017 single-scale, 58.0 and 50.4 multi-scale (published; not confirmed here).
Size: 284.7M parameters, 1470.3G multiply-adds at 800x1280 (published: 284M, 1470G).
Ours: as for Swin-B, see htc_swin_b_6x.py.
"""

_base_ = './htc_swin_b_6x.py'
_block = dict(type='swin_backbone.GlobalBlockNeck', in_channels=1536, num_heads=48)
_fpn = dict(type='FPN', in_channels=[192, 384, 768, 1536], out_channels=256, num_outs=5)
model = dict(backbone=dict(variant='large', init_cfg=dict(checkpoint='swin_l_in22k')), neck=[_block, _fpn])
