"""The command `swin-backbone test`, from a checkout."""

from swin_backbone.cli import main

main('test')
