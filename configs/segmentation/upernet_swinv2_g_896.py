"""UPerNet, Swin V2-G: tests a checkpoint of upernet_swinv2_g_640.py at 896 with windows of 56.

Source: Swin V2 paper, system-level table.
Original: tested at 896x896 with windows of 56.
Expected: mIoU 59.3, 59.9 at several scales with flips (published; not confirmed here).
Size: 3057.7M parameters, 44809.3G multiply-adds at 896x3584 (not published).
"""

_base_ = './upernet_swinv2_g_640.py'
_pipeline = [dict(step, scale=(3584, 896)) if step['type'] == 'Resize' else step for step in _base_.test_pipeline]
model = dict(backbone=dict(window_size=56), data_preprocessor=dict(size=(896, 896)))
val_dataloader = dict(dataset=dict(pipeline=_pipeline))
test_dataloader = val_dataloader
