"""Run `swin-backbone train` from a checkout without installing the package."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from swin_backbone.cli import main

main('train')
