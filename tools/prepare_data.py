"""The command `swin-backbone prepare-data`, from a checkout."""

from swin_backbone.cli import main

main('prepare-data')
