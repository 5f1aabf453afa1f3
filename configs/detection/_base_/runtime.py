"""MMDetection's runtime; a run keeps the last three checkpoints and the best one by box AP."""

_base_ = 'mmdet::_base_/default_runtime.py'

default_hooks = dict(checkpoint=dict(max_keep_ckpts=3, save_best='coco/bbox_mAP'))
# For MMDetection's tools, which read a checkpoint before they build the model, which would import this.
custom_imports = dict(imports=['swin_backbone.registry'])
