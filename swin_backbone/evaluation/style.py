"""The common style of all figures, in a light and a dark theme."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Theme:
    """Colours of a figure.

    Attributes:
        paper: background.
        ink: text, axes and the main curve.
        faint: grid lines.
        accents: colours of the series, in order.
        heat: name of a sequential Matplotlib colour map.
    """

    paper: str
    ink: str
    faint: str
    accents: tuple[str, ...]
    heat: str


LIGHT = Theme(
    '#ffffff', '#222222', '#d5d5d5', ('#1f6fb4', '#d9542b', '#2a8a4a', '#8a53b5', '#b98300', '#47808a'), 'Blues'
)
DARK = Theme(
    '#1b1e23', '#e4e4e4', '#454b54', ('#6db3f2', '#ff9068', '#6fce8c', '#c59bea', '#e6bd55', '#86c5cf'), 'cividis'
)

HALF = (4.55, 3.4)
"""Width and height in inches of a figure that takes half the width of a page."""


def settings(theme: Theme) -> dict[str, Any]:
    """Return Matplotlib's settings for a theme."""
    from cycler import cycler

    paper = dict.fromkeys(('figure.facecolor', 'savefig.facecolor', 'axes.facecolor'), theme.paper)
    ink = dict.fromkeys(('axes.edgecolor', 'axes.labelcolor', 'text.color', 'xtick.color', 'ytick.color'), theme.ink)
    return {
        **paper,
        **ink,
        'axes.prop_cycle': cycler(color=theme.accents),
        'axes.spines.top': False,
        'axes.spines.right': False,
        'axes.titlesize': 11,
        'font.size': 9,
        'grid.color': theme.faint,
        'grid.linewidth': 0.6,
        'legend.frameon': False,
    }


def new_figure(width: float, height: float) -> Any:
    """Create an empty figure of a size in inches, without a display."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout='constrained')


def render(build: Callable[[Theme], Any], theme: Theme = LIGHT, trim: bool = False) -> bytes:
    """Render the figure that ``build`` returns for a theme as PNG; ``trim`` crops the empty margins."""
    from matplotlib import rc_context

    edges = dict(bbox_inches='tight', pad_inches=0.15) if trim else {}
    with rc_context(settings(theme)):
        buffer = io.BytesIO()
        build(theme).savefig(buffer, format='png', dpi=120, **edges)
    return buffer.getvalue()
