"""UPerNet, Swin V2-G with windows of 40, 80k iterations at 640x640; the weights were never published.

Source: Swin V2 paper, appendix on ADE20K and system-level table; no segmentation code was published.
Original: 80k iterations, 32 images per step, AdamW at 4e-5, ZeRO stage 1, checkpointing, sequential attention.
Expected: mIoU 59.1 (published; not confirmed here), 59.9 at several scales with windows of 56.
Size: 3057.7M parameters, 20526.5G multiply-adds at 640x2560 (not published).
Ours: as for Swin V2-L, see upernet_swinv2_l_640.py; random initial weights.
"""

_base_ = ['./_base_/upernet_swinv2_640.py', './_base_/ade20k_640.py', './_base_/adamw_80k_v2.py', './_base_/runtime.py']
_sizes = [512, 1024, 2048, 4096]
model = dict(backbone=dict(variant='giant', drop_path_rate=0.4, init_cfg=None), decode_head=dict(in_channels=_sizes))
model['auxiliary_head'] = dict(in_channels=2048)
