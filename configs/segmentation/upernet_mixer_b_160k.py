"""UPerNet, Swin-Mixer-B, 160k iterations at 512x512, ImageNet-1K weights.

Source: the released Swin-Mixer classifier, with the recipe of the Swin-B model; not in the paper.
Original: none; the recipe is that of upernet_swin_b_160k.
Expected: no score of a segmenter with Swin-Mixer was published.
Size: 94.2M parameters, 1065.3G multiply-adds at 512x2048 (not published).
Ours: windows are shifted in the last stage too; the released classifier has a single window there.
"""

_base_ = './upernet_swin_b_160k.py'
model = dict(backbone=dict(type='swin_backbone.SwinMixer', init_cfg=dict(checkpoint='swin_mixer_b_in1k')))
