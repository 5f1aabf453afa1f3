"""UPerNet, Swin-L with windows of 12, 160k iterations at 512x512, ImageNet-22K weights.

Source: MMSegmentation's config swin-large-patch4-window12-in22k-384x384-pre_upernet_8xb2-160k_ade20k-512x512.
Original: not published.
Expected: no score was published for this crop.
Size: 234.0M parameters, 1642.7G multiply-adds at 512x2048 (not published).
"""

_base_ = './upernet_swin_l_22k_160k.py'
model = dict(backbone=dict(window_size=12, init_cfg=dict(checkpoint='swin_l_384_in22k')))
