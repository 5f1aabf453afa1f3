"""MMSegmentation's runtime, without cuDNN's benchmark mode, since image sizes vary."""

_base_ = 'mmseg::_base_/default_runtime.py'

env_cfg = dict(cudnn_benchmark=False)
# For MMSegmentation's tools, which read a checkpoint before they build the model, which would import this.
custom_imports = dict(imports=['swin_backbone.registry'])
