"""COCO 2017 with the augmentation of HTC++: InstaBoost, short side 400 to 1400, long side at most 1600, stuff maps.

Stuff maps are COCO's 'stuffthingmaps' in a folder of that name. ``plain_pipeline`` does not use them or InstaBoost,
which needs the extra `instaboost`. The size of test images was not published; 1400 is our choice.
"""

_base_ = 'mmdet::_base_/datasets/coco_instance.py'

_resize = dict(type='RandomResize', scale=[(1600, 400), (1600, 1400)], keep_ratio=True)
_end = [_resize, dict(type='RandomFlip', prob=0.5), dict(type='PackDetInputs')]

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='swin_backbone.InstaBoost'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True, with_seg=True),
    *_end,
]
plain_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    *_end,
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(1600, 1400), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(
    dataset=dict(
        data_prefix=dict(img='train2017/', seg='stuffthingmaps/train2017/'),
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
