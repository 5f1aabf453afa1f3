"""The command `swin-backbone train`, from a checkout."""

from swin_backbone.cli import main

main('train')
