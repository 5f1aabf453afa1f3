"""OCRNet, HRNet-W48, 160k iterations at 512x512 with SGD: for comparison in the paper's Table 3.

Source: Swin paper, Table 3, with the mIoU of earlier work; model and recipe are MMSegmentation's.
Original: 160k iterations, 4 GPUs with 4 images each.
Expected: mIoU 45.7 (published in the paper; MMSegmentation: 43.25 single-scale, 44.88 multi-scale with flips).
Size: 70.5M parameters, 668.4G multiply-adds at 512x2048 (published: 71M, 664G).
"""

_base_ = 'mmseg::ocrnet/ocrnet_hr48_4xb4-160k_ade20k-512x512.py'
_weights = dict(type='Pretrained', checkpoint='open-mmlab://msra/hrnetv2_w48')
model = dict(pretrained=None, backbone=dict(init_cfg=_weights))
train_dataloader = dict(batch_size=2)
auto_scale_lr = dict(enable=False, base_batch_size=16)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3, save_best='mIoU'))
