"""SETR with multi-level aggregation, ViT-L, 160k iterations at 512x512 with SGD: a peer in the paper's table.

Source: Swin paper, Table 3 ("T-Large"), which took the mIoU of earlier work; MMSegmentation's model and recipe.
Original: 160k iterations, 8 GPUs with 2 images each.
Expected: mIoU 50.3 (published in the paper; by MMSegmentation 47.39 at one scale, 49.37 at several with flips).
Size: 309.6M parameters, 2091.0G multiply-adds at 512x2048 (published: 308M).
Ours: the weights are a file that MMSegmentation's vit2mmseg.py makes from timm's jx_vit_large_p16_384.
"""

_base_ = 'mmseg::setr/setr_vit-l_mla_8xb2-160k_ade20k-512x512.py'
auto_scale_lr = dict(enable=False, base_batch_size=16)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3, save_best='mIoU'))
