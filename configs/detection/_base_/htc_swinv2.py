"""HTC++ on Swin V2-L with windows of 32 tokens, whose first two stages attend to a few windows at a time.

Blocks are computed again in the backward pass. The bias network reads offsets in units of ImageNet-22K's windows, so
that windows of any size can follow in a test.
"""

_base_ = './htc.py'

model = dict(
    backbone=dict(
        variant='large',
        version=2,
        window_size=32,
        pretrained_window_sizes=(12, 12, 12, 6),
        with_cp=True,
        sequential=(0, 1),
        init_cfg=dict(checkpoint='swinv2_l_in22k_w12'),
    ),
    neck=[
        dict(type='swin_backbone.GlobalBlockNeck', in_channels=1536, num_heads=48),
        dict(type='FPN', in_channels=[192, 384, 768, 1536], out_channels=256, num_outs=5),
    ],
)
