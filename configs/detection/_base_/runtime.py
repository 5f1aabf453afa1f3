"""MMDetection's runtime; a run keeps its last three checkpoints and the best one by box AP."""

_base_ = 'mmdet::_base_/default_runtime.py'

default_hooks = dict(checkpoint=dict(max_keep_ckpts=3, save_best='coco/bbox_mAP'))
# For MMDetection's own tools: they read a checkpoint before they build the model, which would import this.
custom_imports = dict(imports=['swin_backbone.registry'])
