"""RepPoints (V1), Swin-T, 3x schedule, ImageNet-1K weights: for comparison with V2, which the paper used.

Source: in no paper or release.
Original: none.
Expected: not published; probably below the 50.0 box AP of reppoints_v2_swin_t_3x.py.
Size: 37.3M parameters, 223.7G multiply-adds at 800x1280 (not published).
Ours: MMDetection's RepPoints with group norms, and the images and schedule of V2.
"""

_base_ = [
    './_base_/reppoints.py',
    './_base_/coco_detection_960.py',
    './_base_/adamw_3x.py',
    './_base_/runtime.py',
]
