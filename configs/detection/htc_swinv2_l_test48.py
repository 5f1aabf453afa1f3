"""HTC++, Swin V2-L: tests a checkpoint of htc_swinv2_l.py with windows of 48.

Source: Swin V2 paper, system-level table; `--tta` is the multi-scale test.
Original: tested at 1100; the scales of the multi-scale test were not published.
Expected: box AP 58.9, mask AP 51.2 on val2017, 60.2 and 52.1 at several scales, 60.8 and 52.7 on test-dev (published).
Size: 285.0M parameters, 2553.0G multiply-adds at 800x1280 (not published).
"""

_base_ = './htc_swinv2_l.py'
model = dict(backbone=dict(window_size=48))
