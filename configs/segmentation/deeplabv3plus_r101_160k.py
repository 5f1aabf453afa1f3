"""DeepLabV3+, ResNet-101, 160k iterations at 512x512 with SGD: a peer in the paper's table.

Source: Swin paper, Table 3, which took the mIoU of earlier work; model and recipe here are MMSegmentation's.
Original: 160k iterations, 4 GPUs with 4 images each.
Expected: mIoU 44.1 (published in the paper; by MMSegmentation 45.47 at one scale, 46.35 at several with flips).
Size: 62.7M parameters, 1019.3G multiply-adds at 512x2048 (published: 63M, 1021G).
"""

_base_ = ['./_base_/deeplabv3plus.py', './_base_/ade20k_512.py', './_base_/sgd_160k.py', './_base_/runtime.py']
