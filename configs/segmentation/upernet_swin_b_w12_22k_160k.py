"""UPerNet, Swin-B with windows of 12, 160k iterations at 512x512, ImageNet-22K weights.

Source: MMSegmentation's config swin-base-patch4-window12-in22k-384x384-pre_upernet_8xb2-160k_ade20k-512x512.
Original: 160k iterations, 8 V100 GPUs with 2 images each, float32.
Expected: mIoU 50.76 single-scale, 52.40 multi-scale with flips (published by MMSegmentation).
Size: 121.4M parameters, 1206.0G multiply-adds at 512x2048 (not published).
"""

_base_ = './upernet_swin_b_160k.py'
model = dict(backbone=dict(window_size=12, init_cfg=dict(checkpoint='swin_b_384_in22k')))
