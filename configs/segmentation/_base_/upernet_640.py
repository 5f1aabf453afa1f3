"""UPerNet for crops of 640x640."""

_base_ = './upernet.py'

model = dict(data_preprocessor=dict(size=(640, 640)))
