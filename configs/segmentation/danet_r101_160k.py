"""DANet, ResNet-101, 160k iterations at 512x512 with SGD: a peer in the paper's table.

Source: Swin paper, Table 3, which took the mIoU of earlier work; model and recipe here are MMSegmentation's.
Original: 160k iterations, 4 GPUs with 4 images each.
Expected: mIoU 45.2 (published in the paper; by MMSegmentation 44.17 at one scale, 45.02 at several with flips).
Size: 69.1M parameters, 1272.9G multiply-adds at 512x2048 (published: 69M, 1119G).
"""

_base_ = ['./_base_/danet.py', './_base_/ade20k_512.py', './_base_/sgd_160k.py', './_base_/runtime.py']
