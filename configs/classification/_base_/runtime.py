"""MMPretrain's runtime; a run keeps the last three checkpoints and the best one by top-1 accuracy."""

_base_ = 'mmpretrain::_base_/default_runtime.py'

default_hooks = dict(checkpoint=dict(max_keep_ckpts=3, save_best='accuracy/top1'))
# It fixes imports of MMPretrain that fail with Transformers 5, before a model is built.
custom_imports = dict(imports=['swin_backbone.registry'])
