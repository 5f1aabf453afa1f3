"""HTC++, Swin V2-G: tests a checkpoint of htc_swinv2_g.py with windows of 48.

Source: Swin V2 paper, system-level table; `--tta` is the multi-scale test.
Original: tested at 1100; the scales of the multi-scale test were not published.
Expected: box AP 61.9, mask AP 53.4 on val2017, 62.5 and 53.7 at several scales, 63.1 and 54.4 on test-dev (published).
Size: 3261.9M parameters, 19729.5G multiply-adds at 800x1280 (not published).
"""

_base_ = './htc_swinv2_g.py'
model = dict(backbone=dict(window_size=48))
