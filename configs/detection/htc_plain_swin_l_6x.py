"""HTC++, Swin-L, 6x schedule, without stuff maps and InstaBoost: needs only COCO's instance annotations.

Source: htc_swin_l_6x.py without its semantic branch.
Original: none.
Expected: not published; somewhat below htc_swin_l_6x.py.
Size: 281.9M parameters, 1425.5G multiply-adds at 800x1280 (not published).
"""

_base_ = './htc_swin_l_6x.py'
_images = dict(_delete_=True, img='train2017/')
model = dict(data_preprocessor=dict(pad_seg=False), roi_head=dict(semantic_roi_extractor=None, semantic_head=None))
train_dataloader = dict(dataset=dict(data_prefix=_images, pipeline=_base_.plain_pipeline))
