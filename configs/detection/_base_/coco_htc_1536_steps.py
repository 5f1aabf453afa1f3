"""The same data for a schedule that counts steps, not epochs."""

_base_ = './coco_htc_1536.py'

train_dataloader = dict(sampler=dict(type='InfiniteSampler'))
