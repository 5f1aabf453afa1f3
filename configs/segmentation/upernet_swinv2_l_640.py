"""UPerNet, Swin V2-L with windows of 40, 40k iterations at 640x640, ImageNet-22K weights trained with windows of 12.

Source: Swin V2 paper, appendix on ADE20K and system-level table; no segmentation code was published.
Original: 40k iterations, 64 images per step, AdamW at 6e-5 with weight decay 0.05; the hardware was not published.
Expected: mIoU 55.9 at several scales with flips (published; not confirmed here).
Size: 234.0M parameters, 2981.6G multiply-adds at 640x2560 (not published).
Ours: output norms as for V1; the layer-wise rate decay of 0.95 is one interpretation of an unclear sentence.
"""

_base_ = ['./_base_/upernet_swinv2_640.py', './_base_/ade20k_640.py', './_base_/adamw_40k_v2.py', './_base_/runtime.py']
