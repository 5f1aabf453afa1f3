"""160k iterations of SGD at 0.01 for 16 images per step: MMSegmentation's recipe for convolutional networks."""

_base_ = 'mmseg::_base_/schedules/schedule_160k.py'

auto_scale_lr = dict(enable=False, base_batch_size=16)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3, save_best='mIoU'))
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3, save_best='mIoU'))
