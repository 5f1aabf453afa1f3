"""The command `swin-backbone classify`, from a checkout, also where the package is not installed."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from swin_backbone.cli import main

main('classify')
