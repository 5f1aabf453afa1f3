"""`python -m swin_backbone.cli COMMAND`, for launchers that start modules."""

from swin_backbone.cli import main

main()
