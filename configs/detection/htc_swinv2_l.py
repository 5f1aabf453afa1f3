"""HTC++, Swin V2-L, 3x schedule at 1536x1536 with windows of 32, ImageNet-22K weights trained with windows of 12.

Source: Swin V2 paper, appendix on COCO and system-level table; neither code nor config was published.
Original: 36 epochs, 64 images per step, AdamW at 4e-4, a tenth of it for the backbone; the hardware was not published.
Expected: box AP 58.8, mask AP 51.1 on val2017 at 1100 with windows of 32 (published; not confirmed here).
Size: 285.0M parameters, 1820.2G multiply-adds at 800x1280 (not published).
Ours: stochastic depth, output norms and heads as for V1; which side of a test image has 1100 pixels.
"""

_base_ = ['./_base_/htc_swinv2.py', './_base_/coco_htc_1536.py', './_base_/adamw_htc_v2.py', './_base_/runtime.py']
