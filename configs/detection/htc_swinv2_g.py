"""HTC++, Swin V2-G, 45,000 steps at 1536x1536 with windows of 32; the weights were never published.

Source: Swin V2 paper, appendix on COCO and system-level table; neither code nor config was published.
Original: after Objects365; 96 images per step, AdamW at 6e-4, ZeRO stage 1, checkpointing, sequential attention.
Expected: box AP 61.7, mask AP 53.3 on val2017 at 1100 with windows of 32 (published; not confirmed here).
Size: 3261.9M parameters, 14327.4G multiply-adds at 800x1280 (not published).
Ours: as for Swin V2-L, see htc_swinv2_l.py; random initial weights, since the original's were not published.
"""

_base_ = './_base_/htc_swinv2_45k.py'
_block = dict(type='swin_backbone.GlobalBlockNeck', in_channels=4096, num_heads=128)
_fpn = dict(type='FPN', in_channels=[512, 1024, 2048, 4096], out_channels=256, num_outs=5)
model = dict(backbone=dict(variant='giant', init_cfg=None), neck=[_block, _fpn])
