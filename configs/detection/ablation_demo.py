"""Config of the ablation demo for detection: the demo's Cascade Mask R-CNN on other data.

Shapes are 14 pixels wide, and their class depends on a shape up to 63 pixels to the right, outside of the box that the
heads see. Images are not flipped, since that would change the classes.
"""

_base_ = './cascade_swin_demo.py'

data_root = 'data/neighbours/'
_data = dict(
    data_root=data_root,
    metainfo=dict(
        classes=('last', 'before red', 'before green', 'before blue'),
        palette=[(150, 150, 150), (205, 70, 70), (70, 180, 80), (80, 90, 210)],
    ),
)
train_pipeline = [step for step in _base_.train_pipeline if step['type'] != 'RandomFlip']

model = dict(
    backbone=dict(pretrain_img_size=128),
    roi_head=dict(
        bbox_head=[dict(head, num_classes=4) for head in _base_.model.roi_head.bbox_head],
        mask_head=dict(num_classes=4),
    ),
)
train_dataloader = dict(dataset=dict(**_data, pipeline=train_pipeline))
val_dataloader = dict(dataset=_data)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={
            'absolute_pos_embed': dict(lr_mult=10.0),
            'relative_position_bias_table': dict(lr_mult=10.0),
        }
    ),
)
