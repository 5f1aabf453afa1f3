"""DNL, ResNet-101, 160k iterations at 512x512 with SGD: for comparison in the paper's Table 3.

Source: Swin paper, Table 3, with the mIoU of earlier work; model and recipe are MMSegmentation's.
Original: 160k iterations, 4 GPUs with 4 images each.
Expected: mIoU 46.0 (published in the paper; MMSegmentation: 44.25 single-scale, 45.78 multi-scale with flips).
Size: 69.1M parameters, 1247.8G multiply-adds at 512x2048 (published: 69M, 1249G).
"""

_base_ = ['./_base_/dnl.py', './_base_/ade20k_512.py', './_base_/sgd_160k.py', './_base_/runtime.py']
