"""The command `swin-backbone export`, from a checkout."""

from swin_backbone.cli import main

main('export')
