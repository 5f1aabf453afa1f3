"""UPerNet on Swin-T as the original trains it: 512 channels, an auxiliary head on the third map, 150 classes.

SyncBN computes what BN computes in a run of one process; nothing needs to change there.
"""

_base_ = 'mmseg::_base_/models/upernet_swin.py'

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(
        _delete_=True,
        type='swin_backbone.SwinTransformer',
        variant='tiny',
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint='swin_t_in1k'),
    ),
    decode_head=dict(num_classes=150),
    auxiliary_head=dict(num_classes=150),
)
