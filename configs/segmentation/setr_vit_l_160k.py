"""SETR with multi-level aggregation, ViT-L, 160k iterations at 512x512 with SGD: for comparison in the paper's Table 3.

Source: Swin paper, Table 3 ("T-Large"), with the mIoU of earlier work; model and recipe are MMSegmentation's.
Original: 160k iterations, 8 GPUs with 2 images each.
Expected: mIoU 50.3 (published in the paper; MMSegmentation: 47.39 single-scale, 49.37 multi-scale with flips).
Size: 309.6M parameters, 2091.0G multiply-adds at 512x2048 (published: 308M).
Ours: weights converted from timm's jx_vit_large_p16_384 with MMSegmentation's vit2mmseg.py.
"""

_base_ = 'mmseg::setr/setr_vit-l_mla_8xb2-160k_ade20k-512x512.py'
auto_scale_lr = dict(enable=False, base_batch_size=16)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3, save_best='mIoU'))
