"""Loss and metric curves from the scalars logged by mmengine."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from swin_backbone.evaluation.results import labelled_metrics
from swin_backbone.evaluation.style import Theme, new_figure, render
from swin_backbone.files import write_bytes

Series = dict[str, list[tuple[int, float]]]

PANEL = (6.5, 4.0)
"""Width and height of a panel in ``curves.png`` in inches."""


@dataclass(frozen=True)
class Curves:
    """Scalars logged by a training run, as points (step, value) by name.

    Attributes:
        losses: losses by iteration.
        metrics: metrics as fractions of 1 by epoch or iteration.
        unit: unit of the metrics' steps, 'epoch' or 'iteration'.
    """

    losses: Series
    metrics: Series
    unit: str

    def __bool__(self) -> bool:
        return bool(self.losses or self.metrics)


def read_scalars(work_dir: Path) -> list[dict[str, Any]]:
    """Read all logged records of a work dir, starting with the oldest run."""
    logs = sorted(work_dir.glob('*/vis_data/scalars.json'))
    return [json.loads(line) for path in logs for line in path.read_text().splitlines() if line.strip()]


def collect_curves(records: Iterable[dict[str, Any]]) -> Curves:
    """Collect the curves from logged records; steps repeated by a resumed run are overwritten."""
    losses: dict[str, dict[int, float]] = {}
    metrics: dict[str, dict[int, float]] = {}
    unit = 'iteration'
    for record in records:
        unit = 'epoch' if 'epoch' in record else unit
        if 'iter' in record:
            for name, value in record.items():
                if 'loss' in name and isinstance(value, float):
                    losses.setdefault(name, {})[record['iter']] = value
        for label, value in labelled_metrics(record, main=True).items():
            metrics.setdefault(label, {})[record['step']] = value
    in_order = [{name: sorted(points.items()) for name, points in group.items()} for group in (losses, metrics)]
    return Curves(in_order[0], in_order[1], unit)


def draw_curves(work_dir: Path, out_file: Path) -> bool:
    """Draw losses and metrics of the runs in ``work_dir`` side by side; return False if nothing was logged."""
    curves = collect_curves(read_scalars(work_dir))
    if curves:
        write_bytes(out_file, render(partial(build_curves, curves)))
    return bool(curves)


def build_curves(curves: Curves, theme: Theme, size: tuple[float, float] = PANEL) -> Any:
    """Build a figure with a panel for losses and one for metrics; empty ones are omitted."""
    draw = [draw for group, draw in ((curves.losses, draw_losses), (curves.metrics, draw_metrics)) if group]
    figure = new_figure(size[0] * len(draw), size[1])
    for axes, draw_panel in zip(figure.subplots(1, len(draw), squeeze=False)[0], draw, strict=True):
        draw_panel(axes, curves, theme)
        axes.grid()
        axes.legend(fontsize=8, loc='upper left', bbox_to_anchor=(1.0, 1.0))
    return figure


def draw_losses(axes: Any, curves: Curves, theme: Theme) -> None:
    """Draw the total loss as a thick line and its parts as thin lines."""
    for place, (name, points) in enumerate(curves.losses.items()):
        width, colour = (2.0, theme.ink) if name == 'loss' else (0.9, None)
        # Dashed lines once the colours repeat.
        style = '-' if place <= len(theme.accents) else '--'
        axes.plot(*zip(*points, strict=True), style, label=name, linewidth=width, color=colour)
    axes.set(xlabel='iteration', ylabel='loss (logarithmic)', yscale='log', title='training')


def draw_metrics(axes: Any, curves: Curves, theme: Theme) -> None:
    """Draw the metrics of the evaluations during training."""
    for name, points in curves.metrics.items():
        axes.plot(*zip(*points, strict=True), label=name, linewidth=1.2, marker='o', markersize=4)
    axes.set(xlabel=curves.unit, ylabel='fraction of 1', title='validation', xlim=(0, None), ylim=(0, 1.02))
    axes.xaxis.get_major_locator().set_params(integer=True)
