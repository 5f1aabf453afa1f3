"""The command `swin-backbone predict`, from a checkout."""

from swin_backbone.cli import main

main('predict')
