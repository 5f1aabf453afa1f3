"""Loss and metric curves from the scalars that mmengine logs."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from swin_backbone.evaluation.style import HALF, Theme, new_figure, render

Series = dict[str, list[tuple[int, float]]]

WIDTH, HEIGHT = 6.5, 4.0
"""Of a panel, in inches."""

METRICS = {
    'coco/bbox_mAP': 'box AP',
    'coco/bbox_mAP_50': 'box AP50',
    'coco/segm_mAP': 'mask AP',
    'coco/segm_mAP_50': 'mask AP50',
    'mIoU': 'mIoU',
    'mAcc': 'mean accuracy',
}
PERCENTAGES = ('mIoU', 'mAcc')
"""What is logged in percent; a curve is of fractions of 1."""


def read_scalars(work_dir: Path) -> list[dict[str, Any]]:
    """Every logged record of a work dir, oldest run first."""
    records = []
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        records += [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return records


@dataclass(frozen=True)
class Curves:
    """What a training has logged.

    Attributes:
        losses: by iteration.
        metrics: by ``unit``.
        unit: 'epoch' or 'iteration', as the training counts.
    """

    losses: Series
    metrics: Series
    unit: str

    def __bool__(self) -> bool:
        return bool(self.losses or self.metrics)


def collect_curves(records: Iterable[dict[str, Any]]) -> Curves:
    """The curves in logged records; a resumed run overwrites what it repeats."""
    losses: dict[str, dict[int, float]] = {}
    metrics: dict[str, dict[int, float]] = {}
    unit = 'iteration'
    for record in records:
        unit = 'epoch' if 'epoch' in record else unit
        for name, value in record.items():
            if 'loss' in name and isinstance(value, float) and 'iter' in record:
                losses.setdefault(name, {})[record['iter']] = value
            elif name in METRICS:
                share = value / 100 if name in PERCENTAGES else value
                metrics.setdefault(METRICS[name], {})[record['step']] = share
    return Curves(in_order(losses), in_order(metrics), unit)


def in_order(group: dict[str, dict[int, float]]) -> Series:
    """Every series by step."""
    return {name: sorted(points.items()) for name, points in group.items()}


def draw_curves(work_dir: Path, out_file: Path) -> bool:
    """Draw losses and metrics of the runs in ``work_dir`` side by side; False if nothing was logged."""
    curves = collect_curves(read_scalars(work_dir))
    if curves:
        out_file.write_bytes(render(partial(build_curves, curves)))
    return bool(curves)


def build_curves(curves: Curves, theme: Theme) -> Any:
    """Losses, and beside them metrics, as far as there are any."""
    drawings = [draw for group, draw in ((curves.losses, draw_losses), (curves.metrics, draw_metrics)) if group]
    figure = new_figure(WIDTH * len(drawings), HEIGHT)
    for axes, draw in zip(figure.subplots(1, len(drawings), squeeze=False)[0], drawings, strict=True):
        draw(axes, curves, theme)
    return figure


def build_panel(draw: Callable[[Any, Curves, Theme], None], curves: Curves, theme: Theme) -> Any:
    """One of the two by itself."""
    figure = new_figure(*HALF)
    draw(figure.subplots(), curves, theme)
    return figure


def draw_losses(axes: Any, curves: Curves, theme: Theme) -> None:
    """The total heavier than its parts."""
    for place, (name, points) in enumerate(curves.losses.items()):
        width, colour = (2.0, theme.ink) if name == 'loss' else (0.9, None)
        # The colours begin again after the last: then in dashes.
        style = '-' if place <= len(theme.accents) else '--'
        axes.plot(*zip(*points, strict=True), style, label=name, linewidth=width, color=colour)
    axes.set(xlabel='iteration', ylabel='loss (logarithmic)', yscale='log', title='training')
    finish(axes)


def draw_metrics(axes: Any, curves: Curves, theme: Theme) -> None:
    """Figures of the evaluations during training."""
    for name, points in curves.metrics.items():
        axes.plot(*zip(*points, strict=True), label=name, linewidth=1.2, marker='o', markersize=4)
    axes.set(xlabel=curves.unit, ylabel='fraction of 1', title='validation', xlim=(0, None), ylim=(0, 1.02))
    axes.xaxis.get_major_locator().set_params(integer=True)
    finish(axes)


def finish(axes: Any) -> None:
    """Grid and legend, beside the curves."""
    axes.grid()
    axes.legend(fontsize=8, loc='upper left', bbox_to_anchor=(1.0, 1.0))
