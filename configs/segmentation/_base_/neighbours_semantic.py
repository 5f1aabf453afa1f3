"""The data of the ablation demo (tools/prepare_data.py neighbours), in ADE20K's layout.

Images are not flipped, since their classes depend on left and right.
"""

_base_ = 'mmseg::_base_/datasets/ade20k.py'

data_root = 'data/neighbours/'
_data_set = dict(
    type='BaseSegDataset',
    data_root=data_root,
    reduce_zero_label=True,
    metainfo=dict(
        classes=('last', 'before red', 'before green', 'before blue'),
        palette=[(150, 150, 150), (205, 70, 70), (70, 180, 80), (80, 90, 210)],
    ),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='PackSegInputs'),
]
test_pipeline = train_pipeline
train_dataloader = dict(batch_size=8, num_workers=1, dataset=dict(**_data_set, pipeline=train_pipeline))
val_dataloader = dict(batch_size=8, num_workers=1, dataset=dict(**_data_set, pipeline=test_pipeline))
test_dataloader = val_dataloader
