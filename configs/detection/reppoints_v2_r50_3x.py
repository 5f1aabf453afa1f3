"""RepPoints V2 with BiFPN, ResNet-50, 3x schedule and AdamW as for Swin-T: the paper's baseline.

Source: Swin paper, Table 2a; the authors released only the Swin-T config.
Original: 36 epochs, 16 images per step; the hardware was not published.
Expected: box AP 46.5 on val2017 (published).
Size: 42.1M parameters, 272.2G multiply-adds at 800x1280 (published: 42M, 274G).
Ours: everything except the backbone as for Swin-T; frozen stem, first stage and batch norm statistics.
"""

_base_ = [
    './_base_/reppoints_v2.py',
    './_base_/coco_detection_960.py',
    './_base_/adamw_3x.py',
    './_base_/runtime.py',
]
