"""UPerNet, Swin-T, 160k iterations at 512x512, ImageNet-1K weights.

Original: 8 GPUs (V100) with 2 pictures each, float32. ADE20K validation mIoU of the released model: 44.51 with one
scale, 45.81 with several scales and flips; the paper's 46.1 (Table 4) is a multi-scale figure.
"""

_base_ = [
    './_base_/upernet.py',
    './_base_/ade20k_512.py',
    './_base_/adamw_160k.py',
    './_base_/runtime.py',
]
