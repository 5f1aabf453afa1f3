"""ImageNet-22K at 192 pixels, as in the pre-training of Swin V2."""

_base_ = './imagenet_22k.py'

_crop = dict(type='RandomResizedCrop', scale=192, backend='pillow', interpolation='bicubic')
train_pipeline = [_crop if step['type'] == 'RandomResizedCrop' else step for step in _base_.train_pipeline]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
