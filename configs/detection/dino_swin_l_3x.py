"""DINO with five scales, Swin-L with windows of 12, 36 epochs, ImageNet-22K weights.

Source: MMDetection's config dino-5scale_swin-l_8xb2-36e_coco.
Original: 36 epochs, 8 A100 GPUs with 2 images each, float32.
Expected: box AP 58.4 on val2017 (published by MMDetection).
Size: 218.3M parameters, 1526.6G multiply-adds at 800x1280 (not published).
"""

_base_ = './_base_/dino.py'
train_cfg = dict(max_epochs=36)
param_scheduler = [dict(type='MultiStepLR', begin=0, end=36, by_epoch=True, milestones=[27, 33], gamma=0.1)]
