"""UPerNet, Swin-S, 160k iterations at 512x512, ImageNet-1K weights.

Source: Swin paper, section 4.3, Table 3; the authors' released config.
Original: 160k iterations, 8 V100 GPUs with 2 images each, float32.
Expected: mIoU 47.64 single-scale, 49.47 multi-scale with flips (published with the released model; 49.3 in the paper).
Size: 81.3M parameters, 1037.4G multiply-adds at 512x2048 (published: 81M, 1038G).
"""

_base_ = './upernet_swin_t_160k.py'
model = dict(backbone=dict(variant='small', init_cfg=dict(checkpoint='swin_s_in1k')))
