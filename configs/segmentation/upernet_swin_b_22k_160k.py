"""UPerNet, Swin-B, 160k iterations at 512x512, ImageNet-22K weights.

Source: MMSegmentation's config swin-base-patch4-window7-in22k-pre_upernet_8xb2-160k_ade20k-512x512.
Original: 160k iterations, 8 V100 GPUs with 2 images each, float32.
Expected: mIoU 50.13 single-scale, 51.90 multi-scale with flips (published by MMSegmentation).
Size: 121.3M parameters, 1187.4G multiply-adds at 512x2048 (not published).
"""

_base_ = './upernet_swin_b_160k.py'
model = dict(backbone=dict(init_cfg=dict(checkpoint='swin_b_in22k')))
