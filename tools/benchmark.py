"""The command `swin-backbone benchmark`, from a checkout."""

from swin_backbone.cli import main

main('benchmark')
