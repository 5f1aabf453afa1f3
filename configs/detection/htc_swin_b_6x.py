"""HTC++, Swin-B, 6x schedule, ImageNet-22K weights, with stuff maps and InstaBoost.

Source: Swin paper, section 4.2 and appendix A2.2, Table 2c; neither code nor config was published.
Original: 72 epochs; batch and hardware were not published.
Expected: box AP 56.4, mask AP 49.1 on val2017 (published; not confirmed with the choices made here).
Size: 160.5M parameters, 1043.3G multiply-adds at 800x1280 (published: 160M, 1043G).
Ours: batch and learning rate of the other detectors; boxes as in Cascade Mask R-CNN; the layers of the extra block.
"""

_base_ = [
    './_base_/htc.py',
    './_base_/coco_htc.py',
    './_base_/adamw_6x.py',
    './_base_/runtime.py',
]
