"""DINO with five scales, Swin-L with windows of 12, 12 epochs, ImageNet-22K weights.

Source: MMDetection's config dino-5scale_swin-l_8xb2-12e_coco.
Original: 12 epochs, 8 A100 GPUs with 2 images each, float32.
Expected: box AP 57.2 on val2017 (published by MMDetection).
Size: 218.3M parameters, 1526.6G multiply-adds at 800x1280 (not published).
"""

_base_ = './_base_/dino.py'
