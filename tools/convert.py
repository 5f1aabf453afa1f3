"""The command `swin-backbone convert`, from a checkout."""

from swin_backbone.cli import main

main('convert')
