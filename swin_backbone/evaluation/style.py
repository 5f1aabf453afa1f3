"""One look for all figures, on light paper and on dark."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Theme:
    """Colours of a figure.

    Attributes:
        paper: background.
        ink: text, axes and the main line.
        faint: grid lines and what matters less.
        accents: colours of series, in order.
        heat: Matplotlib's name of a colour map from nothing to much.
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
"""Inches of a figure of which two stand beside each other on a page."""


def settings(theme: Theme) -> dict[str, Any]:
    """Matplotlib's settings for a theme."""
    from cycler import cycler

    return {
        'figure.facecolor': theme.paper,
        'savefig.facecolor': theme.paper,
        'axes.facecolor': theme.paper,
        'axes.edgecolor': theme.ink,
        'axes.labelcolor': theme.ink,
        'axes.prop_cycle': cycler(color=theme.accents),
        'axes.spines.top': False,
        'axes.spines.right': False,
        'axes.titlesize': 11,
        'font.size': 9,
        'grid.color': theme.faint,
        'grid.linewidth': 0.6,
        'legend.frameon': False,
        'text.color': theme.ink,
        'xtick.color': theme.ink,
        'ytick.color': theme.ink,
    }


def new_figure(width: float, height: float) -> Any:
    """An empty figure, in inches, that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def render(build: Callable[[Theme], Any], theme: Theme = LIGHT, trim: bool = False) -> bytes:
    """The PNG of the figure that ``build`` makes in a theme; ``trim`` cuts off what is empty around it."""
    from matplotlib import rc_context

    edges = dict(bbox_inches='tight', pad_inches=0.15) if trim else {}
    with rc_context(settings(theme)):
        buffer = io.BytesIO()
        build(theme).savefig(buffer, format='png', dpi=120, **edges)
    return buffer.getvalue()
