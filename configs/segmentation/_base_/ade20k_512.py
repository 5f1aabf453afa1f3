"""ADE20K with crops of 512x512, two images per GPU."""

_base_ = 'mmseg::_base_/datasets/ade20k.py'

train_dataloader = dict(batch_size=2)
