"""UPerNet, Swin V2-B with windows of 16, 160k iterations at 512x512, ImageNet-1K weights trained with windows of 8.

Source: Swin V2 paper, ablation settings; no segmentation code was published.
Original: 160k iterations, 16 images per step, AdamW at 4e-5 with weight decay 0.05; the hardware was not published.
Expected: no score that could be confirmed; above the 48.13 and 49.72 mIoU of V1 (upernet_swin_b_160k.py).
Size: 121.4M parameters, 1198.1G multiply-adds at 512x2048 (not published).
Ours: as for Swin V2-T, see upernet_swinv2_t_160k.py.
"""

_base_ = './upernet_swinv2_t_160k.py'
model = dict(
    backbone=dict(variant='base', init_cfg=dict(checkpoint='swinv2_b_in1k_w8')),
    decode_head=dict(in_channels=[128, 256, 512, 1024]),
    auxiliary_head=dict(in_channels=512),
)
