"""The demo's Cascade Mask R-CNN with a Swin-Mixer of the same width and depth, 1.6M parameters instead of 2.3M."""

_base_ = './cascade_swin_demo.py'
model = dict(backbone=dict(type='swin_backbone.SwinMixer'))
