"""UPerNet, Swin-T, 160k iterations at 512x512, ImageNet-1K weights.

Source: Swin paper, section 4.3, Table 3; the authors' released config (stochastic depth 0.3, not the text's 0.2).
Original: 160k iterations, 8 V100 GPUs with 2 images each, float32.
Expected: mIoU 44.51 single-scale, 45.81 multi-scale with flips (published with the released model; 46.1 in the paper).
Size: 59.9M parameters, 944.4G multiply-adds at 512x2048 (published: 60M, 945G).
"""

_base_ = [
    './_base_/upernet.py',
    './_base_/ade20k_512.py',
    './_base_/adamw_160k.py',
    './_base_/runtime.py',
]
