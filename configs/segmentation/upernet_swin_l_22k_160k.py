"""UPerNet, Swin-L, 160k iterations at 512x512, ImageNet-22K weights.

Source: MMSegmentation's config swin-large-patch4-window7-in22k-pre_upernet_8xb2-160k_ade20k-512x512.
Original: not published.
Expected: no score was published for this crop.
Size: 233.8M parameters, 1611.5G multiply-adds at 512x2048 (not published).
"""

_base_ = './upernet_swin_t_160k.py'
model = dict(
    backbone=dict(variant='large', init_cfg=dict(checkpoint='swin_l_in22k')),
    decode_head=dict(in_channels=[192, 384, 768, 1536]),
    auxiliary_head=dict(in_channels=768),
)
