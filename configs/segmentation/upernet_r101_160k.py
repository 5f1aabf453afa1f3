"""UPerNet, ResNet-101, 160k iterations at 512x512 with AdamW as for Swin-T.

Source: Swin paper, Table 3, with the score of MMSegmentation's model.
Original: 160k iterations with SGD, 4 V100 GPUs with 4 images each.
Expected: not published with this recipe; 43.82 single-scale, 44.85 multi-scale with SGD (the paper's 44.9).
Size: 85.5M parameters, 1028.9G multiply-adds at 512x2048 (published: 86M, 1029G).
Ours: optimizer and image size of Swin-T, so that only the backbones differ.
"""

_base_ = './upernet_swin_t_160k.py'
_weights = dict(type='Pretrained', checkpoint='open-mmlab://resnet101_v1c')
_norm = dict(type='SyncBN', requires_grad=True)
_resnet = dict(type='ResNetV1c', depth=101, norm_cfg=_norm, norm_eval=False, contract_dilation=True)
_heads = dict(decode_head=dict(in_channels=[256, 512, 1024, 2048]), auxiliary_head=dict(in_channels=1024))
model = dict(backbone=dict(_delete_=True, **_resnet, init_cfg=_weights), **_heads)
