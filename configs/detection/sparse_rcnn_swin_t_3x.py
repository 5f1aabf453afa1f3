"""Sparse R-CNN with 300 proposals, Swin-T, 3x schedule, ImageNet-1K weights.

Source: Swin paper, Table 2a; no config was published.
Original: 36 epochs, 16 images per step, AdamW at 1e-4 (paper); the hardware was not published.
Expected: box AP 47.9 on val2017 (published).
Size: 109.7M parameters, 172.7G multiply-adds at 800x1280 (published: 110M, 172G).
Ours: 300 proposals, to match the size; float32, clipping, warm-up and empty images as in Sparse R-CNN's code.
"""

_base_ = ['./_base_/sparse_rcnn.py', './_base_/coco_detection.py', './_base_/adamw_3x.py', './_base_/runtime.py']
_adamw = dict(optimizer=_base_.optim_wrapper.optimizer, paramwise_cfg=_base_.optim_wrapper.paramwise_cfg)
optim_wrapper = dict(_delete_=True, type='OptimWrapper', **_adamw, clip_grad=dict(max_norm=1.0, norm_type=2))
param_scheduler = [dict(_base_.param_scheduler[0], start_factor=0.01, end=1000), _base_.param_scheduler[1]]
train_dataloader = dict(dataset=dict(filter_cfg=dict(filter_empty_gt=False)))
