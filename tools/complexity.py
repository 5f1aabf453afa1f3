"""The command `swin-backbone complexity`, from a checkout."""

from swin_backbone.cli import main

main('complexity')
