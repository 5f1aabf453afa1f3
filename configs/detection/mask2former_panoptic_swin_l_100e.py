"""Mask2Former for panoptic segmentation, Swin-L with windows of 12, 100 epochs, ImageNet-22K weights.

Source: MMDetection's config mask2former_swin-l-p4-w12-384-in21k_16xb1-lsj-100e_coco-panoptic.
Original: 737500 iterations (100 epochs), 16 GPUs with 1 image each, float32.
Expected: PQ 57.6, box AP 52.2, mask AP 48.5 on val2017 (published by MMDetection; the authors' code has PQ 57.8).
Size: 215.5M parameters, 978.6G multiply-adds at 800x1280 (not published).
"""

_base_ = './mask2former_panoptic_swin_b_50e.py'
_head = dict(num_queries=200, in_channels=[192, 384, 768, 1536])
model = dict(backbone=dict(variant='large', init_cfg=dict(checkpoint='swin_l_384_in22k')), panoptic_head=_head)
train_dataloader = dict(batch_size=1, num_workers=1)
train_cfg = dict(max_iters=737500, dynamic_intervals=[(735001, 737500)])
param_scheduler = dict(end=737500, milestones=[655556, 710184])
