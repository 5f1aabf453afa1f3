"""The generated shapes data set (tools/prepare_data.py shapes), in ADE20K's layout."""

_base_ = 'mmseg::_base_/datasets/ade20k.py'

data_root = 'data/shapes/'
_data_set = dict(
    type='BaseSegDataset',
    data_root=data_root,
    reduce_zero_label=True,
    metainfo=dict(
        classes=('circle', 'square', 'triangle', 'star', 'ring', 'cross', 'sky', 'water', 'ground'),
        palette=[
            (220, 40, 60),
            (0, 120, 200),
            (250, 180, 30),
            (150, 60, 190),
            (40, 170, 90),
            (240, 110, 170),
            (150, 200, 240),
            (40, 70, 130),
            (130, 110, 70),
        ],
    ),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(batch_size=8, num_workers=1, dataset=dict(**_data_set, pipeline=train_pipeline))
val_dataloader = dict(batch_size=8, num_workers=1, dataset=dict(**_data_set, pipeline=test_pipeline))
test_dataloader = val_dataloader
