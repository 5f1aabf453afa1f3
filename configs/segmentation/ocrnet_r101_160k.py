"""OCRNet, ResNet-101, 160k iterations at 512x512 with SGD: for comparison in the paper's Table 3.

Source: Swin paper, Table 3, with the mIoU of earlier work; the model is MMSegmentation's.
Original: MMSegmentation trained it only on Cityscapes; the recipe is that of its other networks on ADE20K.
Expected: mIoU 45.3 (published in the paper).
Size: 55.6M parameters, 925.7G multiply-adds at 512x2048 (published: 56M, 923G).
"""

_base_ = ['./_base_/ocrnet.py', './_base_/ade20k_512.py', './_base_/sgd_160k.py', './_base_/runtime.py']
