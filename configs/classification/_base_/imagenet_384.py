"""ImageNet-1K at 384 pixels; test images are resized to 384x384 without keeping the aspect ratio."""

_base_ = './imagenet_224.py'

_crop = dict(type='RandomResizedCrop', scale=384, backend='pillow', interpolation='bicubic')
train_pipeline = [_crop if step['type'] == 'RandomResizedCrop' else step for step in _base_.train_pipeline]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(384, 384), backend='pillow', interpolation='bicubic'),
    dict(type='PackInputs'),
]

train_dataloader = dict(batch_size=64, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=64, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
