"""The command `swin-backbone configs`, from a checkout."""

from swin_backbone.cli import main

main('configs')
