"""UPerNet, Swin V2-S with windows of 16, 160k iterations at 512x512, ImageNet-1K weights trained with windows of 8.

Source: Swin V2 paper, ablation settings; no segmentation code was published.
Original: 160k iterations, 16 images per step, AdamW at 4e-5 with weight decay 0.05; the hardware was not published.
Expected: no score that could be confirmed; above the 47.64 and 49.47 mIoU of V1 (upernet_swin_s_160k.py).
Size: 81.4M parameters, 1048.4G multiply-adds at 512x2048 (not published).
Ours: as for Swin V2-T, see upernet_swinv2_t_160k.py.
"""

_base_ = './upernet_swinv2_t_160k.py'
model = dict(backbone=dict(variant='small', init_cfg=dict(checkpoint='swinv2_s_in1k_w8')))
