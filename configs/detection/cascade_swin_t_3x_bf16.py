"""Cascade Mask R-CNN, Swin-T, 3x schedule in bfloat16: autocast without loss scaling.

Source: cascade_swin_t_3x.py; `--bf16` applies the same change to any config.
Original: none; only the precision differs (float16 there).
Expected: not published.
Size: 85.6M parameters, 744.8G multiply-adds at 800x1280 (published: 86M, 745G).
"""

_base_ = './cascade_swin_t_3x.py'
optim_wrapper = dict(dtype='bfloat16', loss_scale=dict(_delete_=True, enabled=False))
