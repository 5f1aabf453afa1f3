"""Loss and metric curves from the scalars that mmengine logs."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Series = dict[str, list[tuple[int, float]]]

METRICS = {
    'coco/bbox_mAP': 'box AP',
    'coco/bbox_mAP_50': 'box AP50',
    'coco/segm_mAP': 'mask AP',
    'coco/segm_mAP_50': 'mask AP50',
    'mIoU': 'mIoU (%)',
    'mAcc': 'mean accuracy (%)',
}


def read_scalars(work_dir: Path) -> list[dict[str, Any]]:
    """Every logged record of a work dir, oldest run first."""
    records = []
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        records += [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return records


def collect_series(records: Iterable[dict[str, Any]]) -> tuple[Series, Series]:
    """Losses by iteration and metrics by evaluation step; a resumed run overwrites what it repeats."""
    losses: dict[str, dict[int, float]] = {}
    metrics: dict[str, dict[int, float]] = {}
    for record in records:
        for name, value in record.items():
            if 'loss' in name and isinstance(value, float) and 'iter' in record:
                losses.setdefault(name, {})[record['iter']] = value
            elif name in METRICS:
                metrics.setdefault(METRICS[name], {})[record['step']] = value
    return in_order(losses), in_order(metrics)


def in_order(group: dict[str, dict[int, float]]) -> Series:
    """Every series as points sorted by step."""
    return {name: sorted(points.items()) for name, points in group.items()}


def draw_curves(work_dir: Path, out_file: Path) -> bool:
    """Draw losses and metrics of the runs in ``work_dir`` side by side; False if nothing was logged."""
    losses, metrics = collect_series(read_scalars(work_dir))
    if not losses and not metrics:
        return False
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout='constrained')
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for name, points in losses.items():
        width, colour = (2.0, 'black') if name == 'loss' else (0.9, None)
        left.plot(*zip(*points, strict=True), label=name, linewidth=width, color=colour)
    for name, points in metrics.items():
        right.plot(*zip(*points, strict=True), marker='o', label=name)
    left.set(xlabel='iteration', ylabel='loss', yscale='log', title='training loss')
    right.set(xlabel='evaluation step', title='validation')
    for axes in (left, right):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=7, ncols=2)
    figure.savefig(out_file, dpi=110)
    return True
