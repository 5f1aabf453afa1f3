"""HTC++ with Swin V2-L and windows of 32x32 tokens; the first two stages use sequential attention.

Blocks are recomputed in the backward pass. The position bias MLP uses offsets relative to ImageNet-22K's windows, so a
test can use windows of any size.
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
