"""UPerNet for crops of 640x640 with Swin V2-L and windows of 40x40 tokens.

The first two stages use sequential attention, and blocks are recomputed in the backward pass. The position bias MLP
uses offsets relative to ImageNet-22K's windows, so a test can use windows of any size.
"""

_base_ = './upernet_640.py'

model = dict(
    backbone=dict(
        variant='large',
        version=2,
        window_size=40,
        pretrained_window_sizes=(12, 12, 12, 6),
        with_cp=True,
        sequential=(0, 1),
        init_cfg=dict(checkpoint='swinv2_l_in22k_w12'),
    ),
    decode_head=dict(in_channels=[192, 384, 768, 1536]),
    auxiliary_head=dict(in_channels=768),
)
