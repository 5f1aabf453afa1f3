"""DANet, ResNet-101, 160k iterations at 512x512 with SGD: for comparison in the paper's Table 3.

Source: Swin paper, Table 3, with the mIoU of earlier work; model and recipe are MMSegmentation's.
Original: 160k iterations, 4 GPUs with 4 images each.
Expected: mIoU 45.2 (published in the paper; MMSegmentation: 44.17 single-scale, 45.02 multi-scale with flips).
Size: 69.1M parameters, 1272.9G multiply-adds at 512x2048 (published: 69M, 1119G).
"""

_base_ = ['./_base_/danet.py', './_base_/ade20k_512.py', './_base_/sgd_160k.py', './_base_/runtime.py']
