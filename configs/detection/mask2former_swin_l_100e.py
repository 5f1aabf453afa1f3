"""Mask2Former for instance segmentation, Swin-L with windows of 12, 100 epochs, ImageNet-22K weights.

Source: the authors' model list; MMDetection has no such config.
Original: 100 epochs, 16 images per step.
Expected: mask AP 50.1 on val2017 (published by the authors of Mask2Former; not confirmed here).
Size: 215.5M parameters, 978.6G multiply-adds at 800x1280 (not published).
Ours: MMDetection's settings for Swin-T, with backbone, queries and schedule of its panoptic Swin-L.
"""

_base_ = './mask2former_swin_b_50e.py'
_head = dict(num_queries=200, in_channels=[192, 384, 768, 1536])
model = dict(backbone=dict(variant='large', init_cfg=dict(checkpoint='swin_l_384_in22k')), panoptic_head=_head)
train_dataloader = dict(batch_size=1, num_workers=1)
train_cfg = dict(max_iters=737500, dynamic_intervals=[(735001, 737500)])
param_scheduler = dict(end=737500, milestones=[655556, 710184])
