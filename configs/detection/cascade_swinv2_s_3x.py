"""Cascade Mask R-CNN, Swin V2-S with windows of 16, 3x schedule, ImageNet-1K weights trained with windows of 8.

Source: Swin V2 paper, ablation settings; no detection code was published.
Original: 36 epochs, 16 images per step; the hardware was not published.
Expected: no score that could be confirmed; above the 51.8 box AP of V1 (cascade_swin_s_3x.py).
Size: 107.1M parameters, 867.7G multiply-adds at 800x1280 (not published).
Ours: as for Swin V2-T, see cascade_swinv2_t_3x.py.
"""

_base_ = './cascade_swinv2_t_3x.py'
model = dict(backbone=dict(variant='small', init_cfg=dict(checkpoint='swinv2_s_in1k_w8')))
