"""UPerNet, Swin V2-T with windows of 16, 160k iterations at 512x512, ImageNet-1K weights trained with windows of 8.

Source: Swin V2 paper, Table 1 (log-spaced bias, W16); no segmentation code was published.
Original: 160k iterations, 16 images per step, AdamW at 4e-5 with weight decay 0.05; the hardware was not published.
Expected: mIoU 47.0 (published; the number of test scales is not stated).
Size: 60.0M parameters, 951.7G multiply-adds at 512x2048 (not published).
Ours: output norms as for V1; the layer-wise rate decay of 0.95 is one interpretation of an unclear sentence.
"""

_base_ = ['./_base_/upernet.py', './_base_/ade20k_512.py', './_base_/adamw_160k_v2.py', './_base_/runtime.py']
_v2 = dict(version=2, window_size=16, pretrained_window_sizes=(8, 8, 8, 8))
model = dict(backbone=dict(**_v2, init_cfg=dict(checkpoint='swinv2_t_in1k_w8')))
