"""Time and memory over the area of the image."""

from collections.abc import Callable, Sequence
from typing import Any

from swin_backbone.benchmark.timing import Timing
from swin_backbone.evaluation.style import LIGHT, new_figure, render


def megapixels(row: Timing) -> float:
    """The area of the image that ``row.part`` names as 'height x width'."""
    height, width = row.part.split(' x ')
    return int(height) * int(width) / 1e6


def plot_areas(rows: Sequence[Timing]) -> bytes:
    """Plot milliseconds and peak memory of every implementation over the image's area, on logarithmic axes, as PNG."""
    panels: dict[str, Callable[[Timing], float]] = {'ms': lambda row: row.median_ms}
    if all(row.peak_bytes is not None for row in rows):
        panels['peak MiB'] = lambda row: (row.peak_bytes or 0) / 2**20

    def build(_: Any) -> Any:
        figure = new_figure(4.4 * len(panels), 3.6)
        for axes, (unit, value) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
            for name in dict.fromkeys(row.name for row in rows):
                chosen = [row for row in rows if row.name == name]
                ours = name.startswith('swin_backbone')
                areas = [megapixels(row) for row in chosen]
                axes.loglog(areas, [value(row) for row in chosen], 'o-', label=name, linewidth=2 if ours else 1)
            axes.set_xlabel('image area in megapixels')
            axes.set_ylabel(unit)
            axes.grid(True, which='both')
        axes.legend(fontsize=7)
        return figure

    return render(build, LIGHT)
