"""UPerNet, Swin-T, 160k iterations at 512x512 in bfloat16: autocast without loss scaling.

Source: upernet_swin_t_160k.py; `--bf16` applies the same change to any config.
Original: none; only the precision differs (float32 there).
Expected: not published.
Size: 59.9M parameters, 944.4G multiply-adds at 512x2048 (published: 60M, 945G).
"""

_base_ = './upernet_swin_t_160k.py'
optim_wrapper = dict(type='AmpOptimWrapper', dtype='bfloat16', loss_scale=dict(enabled=False))
