"""COCO 2017 with the augmentation of Swin V2's HTC++: scales 0.1 to 2.0, crop and padding to 1536x1536, InstaBoost.

The scale is relative to the size at which an image fits into 1536x1536. The test size is 1100; applying it to the short
side, with a long side of at most 1536, is our choice.
"""

_base_ = './coco_htc.py'

_size = (1536, 1536)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='swin_backbone.InstaBoost'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True, with_seg=True),
    dict(type='RandomResize', scale=_size, ratio_range=(0.1, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=_size, crop_type='absolute', recompute_bbox=True, allow_negative_crop=True),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(0.01, 0.01)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='Pad', size=_size, pad_val=dict(img=(123.675, 116.28, 103.53), masks=0, seg=255)),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(1536, 1100), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(batch_size=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
