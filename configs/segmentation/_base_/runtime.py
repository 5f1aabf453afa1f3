"""MMSegmentation's runtime; images of any size, so cuDNN does not search for the fastest kernels."""

_base_ = 'mmseg::_base_/default_runtime.py'

env_cfg = dict(cudnn_benchmark=False)
# For MMSegmentation's own tools: they read a checkpoint before they build the model, which would import this.
custom_imports = dict(imports=['swin_backbone.registry'])
