"""The command `swin-backbone ablate`, from a checkout."""

from swin_backbone.cli import main

main('ablate')
