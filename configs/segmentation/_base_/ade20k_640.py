"""ADE20K with crops of 640x640, two images per GPU."""

_base_ = 'mmseg::_base_/datasets/ade20k_640x640.py'

train_dataloader = dict(batch_size=2)
