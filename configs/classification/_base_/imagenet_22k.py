"""ImageNet-22K (fall 2011, 21,841 classes) in class folders; it has no validation split."""

_base_ = './imagenet_224.py'

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_root='data/imagenet22k',
        data_prefix='train',
        pipeline=_base_.train_pipeline,
    )
)
val_dataloader = None
val_evaluator = None
test_dataloader = None
test_evaluator = None
