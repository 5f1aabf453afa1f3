"""HTC++ as described in the paper: Cascade's 4conv1fc heads, HTC's masks and semantic branch, an extra global block.

Class-specific boxes with GIoU loss on decoded boxes are those of Cascade Mask R-CNN; HTC++'s were not published.
"""

_base_ = './cascade_mask_rcnn.py'

_mask_head = dict(
    type='HTCMaskHead',
    num_convs=4,
    in_channels=256,
    conv_out_channels=256,
    num_classes=80,
    loss_mask=dict(type='CrossEntropyLoss', use_mask=True, loss_weight=1.0),
)

model = dict(
    type='HybridTaskCascade',
    data_preprocessor=dict(pad_seg=True),
    backbone=dict(variant='base', init_cfg=dict(checkpoint='swin_b_in22k')),
    neck=[
        dict(type='swin_backbone.GlobalBlockNeck', in_channels=1024, num_heads=32),
        dict(type='FPN', in_channels=[128, 256, 512, 1024], out_channels=256, num_outs=5),
    ],
    roi_head=dict(
        type='HybridTaskCascadeRoIHead',
        interleaved=True,
        mask_info_flow=True,
        semantic_roi_extractor=dict(
            type='SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=0),
            out_channels=256,
            featmap_strides=[8],
        ),
        semantic_head=dict(
            type='FusedSemanticHead',
            num_ins=5,
            fusion_level=1,
            seg_scale_factor=1 / 8,
            num_convs=4,
            in_channels=256,
            conv_out_channels=256,
            num_classes=183,
            loss_seg=dict(type='CrossEntropyLoss', ignore_index=255, loss_weight=0.2),
        ),
        # The first stage has no features from a previous stage.
        mask_head=[dict(_mask_head, with_conv_res=stage > 0) for stage in range(3)],
    ),
    test_cfg=dict(rcnn=dict(score_thr=0.001, nms=dict(type='soft_nms', iou_threshold=0.5))),
)
