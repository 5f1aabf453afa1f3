"""RepPoints V2 with BiFPN, Swin-T, 3x schedule, ImageNet-1K weights.

Source: Swin paper, Table 2a; the authors' released config, whose images have a short side of up to 960.
Original: 36 epochs, 8 V100 GPUs with 2 images each, mixed precision.
Expected: box AP 50.0 on val2017 (published; the released model has the same).
Size: 44.9M parameters, 282.0G multiply-adds at 800x1280 (published: 45M, 283G).
"""

_base_ = './reppoints_v2_r50_3x.py'
_swin = dict(type='swin_backbone.SwinTransformer', variant='tiny', out_indices=(1, 2, 3), drop_path_rate=0.2)
_weights = dict(type='Pretrained', checkpoint='swin_t_in1k')
model = dict(
    backbone=dict(_delete_=True, **_swin, init_cfg=_weights),
    neck=dict(in_channels=[192, 384, 768]),
)
