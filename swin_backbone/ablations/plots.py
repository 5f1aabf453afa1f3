"""Plots of the ablations: the paper's numbers next to ours, each on its own scale."""

from collections.abc import Mapping, Sequence
from typing import Any

from swin_backbone.ablations.paper_v1 import DEFAULT_RUN
from swin_backbone.ablations.results import Score
from swin_backbone.evaluation.style import Theme, new_figure

PANEL = 3.4
"""Width of a panel in inches."""


def draw_scores(scores: Sequence[Score], metrics: Mapping[str, str], theme: Theme) -> Any:
    """Draw a panel with the paper's scores and one with ours for each metric, with one line per row of the table."""
    rows = len(scores) // len(metrics)
    figure = new_figure(1.6 + PANEL * 2, (1.0 + 0.36 * rows) * len(metrics))
    panels = figure.subplots(len(metrics), 2, squeeze=False, sharey=True)
    for (paper, here), (metric, label) in zip(panels, metrics.items(), strict=True):
        chosen = [score for score in scores if score.metric == metric]
        texts = ['not in the paper' if score.paper is None else '' for score in chosen]
        draw_panel(paper, chosen, [(score.paper, 0.0, ()) for score in chosen], texts, theme.ink, theme)
        paper.set_title(f'{label}, the paper')
        ours = [(s.here.mean if s.here.values else None, s.here.deviation, s.here.values) for s in chosen]
        draw_panel(here, chosen, ours, [score.state for score in chosen], theme.accents[0], theme)
        here.set_title(f'{label}, here')
    panels[0, 0].set_yticks(range(rows), [s.title for s in scores if s.metric == next(iter(metrics))])
    panels[0, 0].set_ylim(rows - 0.5, -0.6)
    return figure


def draw_panel(
    axes: Any,
    scores: Sequence[Score],
    points: Sequence[tuple[float | None, float, Sequence[float]]],
    missing: Sequence[str],
    colour: str,
    theme: Theme,
) -> None:
    """Draw mean, standard deviation and single values of every row, and a line at the mean of the default row.

    Args:
        axes: axes of the panel.
        scores: the rows.
        points: mean, standard deviation and values of each row; the mean is None if there are no values.
        missing: text for each row without a mean.
        colour: colour of the points.
        theme: theme of the figure.
    """
    default = next((mean for (mean, _, _), score in zip(points, scores, strict=True) if score.run == DEFAULT_RUN), None)
    if default is not None:
        axes.axvline(default, color=theme.faint, linewidth=1.2, linestyle='--', zorder=0)
    for row, (mean, deviation, values) in enumerate(points):
        if mean is None:
            place = dict(xy=(0.03, row), xycoords=('axes fraction', 'data'))
            axes.annotate(missing[row], va='center', fontsize=7, alpha=0.7, **place)
            continue
        axes.plot(values, [row] * len(values), '|', color=colour, markersize=10)
        if deviation > 0:
            axes.plot([mean - deviation, mean + deviation], [row, row], color=colour, linewidth=4, alpha=0.35)
        axes.plot(mean, row, 'o', color=colour, markersize=5)
        text = f'{mean:.1f}' if default is None or mean == default else f'{mean:.1f} ({mean - default:+.1f})'
        axes.annotate(text, (mean, row), (0, 6), textcoords='offset points', ha='center', fontsize=7)
    axes.set_xlabel('percent')
    axes.margins(x=0.18)
    axes.tick_params(left=False)
    axes.spines['left'].set_visible(False)
    axes.grid(axis='x')


def draw_speeds(panels: Sequence[tuple[str, Sequence[tuple[str, float, float]]]], theme: Theme) -> Any:
    """Draw relative times on logarithmic scales.

    Args:
        panels: title of each column of Table 5, and for each of its rows the title, and the paper's and our time
            relative to the shifted windows.
        theme: theme of the figure.
    """
    from matplotlib.ticker import LogLocator, NullLocator

    columns = min(4, len(panels))
    lines = -(-len(panels) // columns)
    titles = [title for title, _, _ in panels[0][1]]
    figure = new_figure(1.8 + 2.5 * columns, 0.7 + (0.7 + 0.28 * len(titles)) * lines)
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for axes, (title, rows) in zip(grid.flat, panels, strict=False):
        places = range(len(rows))
        axes.axvline(1.0, color=theme.faint, linewidth=1.2, linestyle='--', zorder=0)
        axes.plot([paper for _, paper, _ in rows], places, 'D', color=theme.ink, markersize=5, label='paper')
        axes.plot([ours for _, _, ours in rows], places, 'o', color=theme.accents[0], markersize=6, label='here')
        axes.set(title=title, xscale='log', xlabel='time relative to cyclic')
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(lambda value, _: f'{value:g}')
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(min(0.5, axes.get_xlim()[0]), max(2.0, axes.get_xlim()[1]))
        axes.grid(axis='x')
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    grid[0, 0].set_yticks(range(len(titles)), titles)
    grid[0, 0].set_ylim(len(titles) - 0.5, -0.5)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc='outside upper right', ncols=2)
    return figure
