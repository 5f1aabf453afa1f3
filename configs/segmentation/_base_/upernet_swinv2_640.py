"""UPerNet for crops of 640x640 on Swin V2-L with windows of 40 tokens, a few of which are attended at a time.

That holds for the first two stages; blocks are computed again in the backward pass. The bias network reads offsets in
units of ImageNet-22K's windows, so that windows of any size can follow in a test.
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
