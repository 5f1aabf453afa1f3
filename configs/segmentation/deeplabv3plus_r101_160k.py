"""DeepLabV3+, ResNet-101, 160k iterations at 512x512 with SGD: for comparison in the paper's Table 3.

Source: Swin paper, Table 3, with the mIoU of earlier work; model and recipe are MMSegmentation's.
Original: 160k iterations, 4 GPUs with 4 images each.
Expected: mIoU 44.1 (published in the paper; MMSegmentation: 45.47 single-scale, 46.35 multi-scale with flips).
Size: 62.7M parameters, 1019.3G multiply-adds at 512x2048 (published: 63M, 1021G).
"""

_base_ = ['./_base_/deeplabv3plus.py', './_base_/ade20k_512.py', './_base_/sgd_160k.py', './_base_/runtime.py']
