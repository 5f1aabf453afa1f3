"""The command `swin-backbone check-configs`, from a checkout."""

from swin_backbone.cli import main

main('check-configs')
