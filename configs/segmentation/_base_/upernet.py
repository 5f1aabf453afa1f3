"""UPerNet with Swin-T as in the original: 512 channels, an auxiliary head on the third map, 150 classes.

SyncBN is equivalent to BN in a run with one process.
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
