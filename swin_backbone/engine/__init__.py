"""Glue to mmengine's Runner. Nothing is imported here, so that single modules stay cheap to use."""

import swin_backbone.mmcv_ops  # noqa: F401  serves mmcv's operators
