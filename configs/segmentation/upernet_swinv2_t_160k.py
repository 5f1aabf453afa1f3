"""UPerNet, Swin V2-T with windows of 16, 160k iterations at 512x512, ImageNet-1K weights trained with windows of 8.

Source: Swin V2 paper, Table 1 (log-spaced bias, W16); no segmentation code was ever published.
Original: 160k iterations, 16 pictures a step, AdamW at 4e-5 with weight decay 0.05; the hardware was not published.
Expected: mIoU 47.0 (published; with how many scales is not said).
Size: 60.0M parameters, 951.7G multiply-adds at 512x2048 (not published).
Ours: output norms as for V1. That the rates decay by 0.95 a layer here is one reading of an unclear sentence.
"""

_base_ = './upernet_swin_t_160k.py'
_v2 = dict(version=2, window_size=16, pretrained_window_sizes=(8, 8, 8, 8))
_undecayed = dict(cpb_mlp=dict(decay_mult=0.0), logit_scale=dict(decay_mult=0.0))
model = dict(backbone=dict(**_v2, init_cfg=dict(checkpoint='swinv2_t_in1k_w8')))
optim_wrapper = dict(
    constructor='swin_backbone.LayerDecayOptimWrapperConstructor',
    optimizer=dict(lr=0.00004, weight_decay=0.05),
    paramwise_cfg=dict(decay_rate=0.95, custom_keys=_undecayed),
)
