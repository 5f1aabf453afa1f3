"""The command `swin-backbone visualize`, from a checkout."""

from swin_backbone.cli import main

main('visualize')
