"""ImageNet-1K at 256 pixels; tests cut them from 292."""

_base_ = 'mmpretrain::_base_/datasets/imagenet_bs64_swin_256.py'

train_dataloader = dict(batch_size=128, num_workers=8, persistent_workers=True)
val_dataloader = dict(batch_size=128, num_workers=8, persistent_workers=True)
test_dataloader = val_dataloader
