"""The data of coco_htc_1536.py for a schedule in steps instead of epochs."""

_base_ = './coco_htc_1536.py'

train_dataloader = dict(sampler=dict(type='InfiniteSampler'))
