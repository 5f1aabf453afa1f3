"""RTMDet-L, Swin-B with windows of 12, 100 epochs at 640x640, ImageNet-22K weights.

Source: MMDetection's config rtmdet_l_swin_b_4xb32-100e_coco.
Original: 100 epochs, 4 GPUs with 32 images each, float32, averaged weights.
Expected: box AP 52.4 on val2017 (published by MMDetection).
Size: 113.1M parameters, 472.3G multiply-adds at 800x1280 (not published).
"""

_base_ = './_base_/rtmdet.py'
