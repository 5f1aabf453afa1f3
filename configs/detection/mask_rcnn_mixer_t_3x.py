"""Mask R-CNN, Swin-Mixer-T with 24 channels per head, 3x schedule, ImageNet-1K weights.

Source: the released Swin-Mixer classifier, with the recipe of the Swin-T model; not in the paper.
Original: none; the recipe is that of mask_rcnn_swin_t_3x.
Expected: no score of a detector with Swin-Mixer was published.
Size: 39.9M parameters, 233.5G multiply-adds at 800x1280 (not published).
Ours: windows are shifted in the last stage too; the released classifier has a single window there.
"""

_base_ = './mask_rcnn_swin_t_3x.py'
model = dict(
    backbone=dict(type='swin_backbone.SwinMixer', variant='tiny_c24', init_cfg=dict(checkpoint='swin_mixer_t_c24_in1k'))
)
