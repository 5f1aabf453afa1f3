"""One value per class as bars: a table that is read at a glance."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swin_backbone.reports.style import Theme, new_figure

ROWS = 40


def draw_class_bars(classes: Sequence[str], values: NDArray[np.float64], title: str, unit: str, theme: Theme) -> Any:
    """One value between 0 and 1 per class as bars, best first, in as many columns as they need."""
    order = np.argsort(np.nan_to_num(values, nan=-1.0), kind='stable')[::-1]
    rows = min(ROWS, max(1, len(order)))
    columns = -(-len(order) // rows)
    figure = new_figure(max(6.0, 3.4 * columns), 0.8 + 0.21 * rows)
    panels = figure.subplots(1, columns, squeeze=False)[0]
    for i, axes in enumerate(panels):
        part = order[i * rows : (i + 1) * rows]
        bars = axes.barh(range(len(part)), np.nan_to_num(values[part]), 0.75, color=theme.accents[0])
        texts = ['none' if np.isnan(values[k]) else f'{values[k]:.3f}' for k in part]
        axes.bar_label(bars, texts, padding=2, fontsize=8)
        axes.set_yticks(range(len(part)), [classes[k] for k in part])
        axes.set(xlim=(0, 1.12), ylim=(rows - 0.4, -0.6), xlabel=unit)
    figure.suptitle(title, fontsize=11)
    return figure
