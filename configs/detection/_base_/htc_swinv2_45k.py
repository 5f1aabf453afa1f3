"""HTC++ with Swin V2, trained for 45,000 steps."""

_base_ = ['./htc_swinv2.py', './coco_htc_1536_steps.py', './adamw_htc_v2_45k.py', './runtime_steps.py']
