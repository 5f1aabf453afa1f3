"""MMSegmentation's runtime; pictures of any size, so cuDNN does not search for the fastest kernels."""

_base_ = 'mmseg::_base_/default_runtime.py'

env_cfg = dict(cudnn_benchmark=False)
