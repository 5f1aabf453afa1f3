"""UPerNet, Swin-L, 160k iterations at 640x640, ImageNet-22K weights.

Source: Swin paper, section 4.3, Table 3; no config was published.
Original: 160k iterations, 8 V100 GPUs with 2 images each.
Expected: mIoU 52.05 single-scale, 53.53 multi-scale with flips (published with the scores of the release).
Size: 233.8M parameters, 2482.3G multiply-adds at 640x2560 (published: 234M, 3230G).
Ours: as for Swin-B, see upernet_swin_b_640_160k.py. The published 3230G do not match the cost of this network.
"""

_base_ = './upernet_swin_b_640_160k.py'
model = dict(
    backbone=dict(variant='large', init_cfg=dict(checkpoint='swin_l_in22k')),
    decode_head=dict(in_channels=[192, 384, 768, 1536]),
    auxiliary_head=dict(in_channels=768),
)
