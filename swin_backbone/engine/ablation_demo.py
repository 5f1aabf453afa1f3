"""The embedded data on which the ablations are demonstrated."""

from pathlib import Path

from swin_backbone.datasets.neighbours import write_neighbours

ROOT = Path('data/neighbours')
"""Where the demo's configs look for them."""


def make_data(root: str | None = None) -> Path:
    """Make the data, unless they are complete already; returns their folder."""
    folder = Path(root) if root else ROOT
    write_neighbours(folder)
    return folder
