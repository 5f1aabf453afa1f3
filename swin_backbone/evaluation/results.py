"""Metrics of an evaluation: names, units, and the file ``summary.json``."""

from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

from swin_backbone.files import write_json


@dataclass(frozen=True)
class Metric:
    """Name and unit of a metric.

    Attributes:
        label: the usual name.
        percent: whether the toolkit reports it in percent; in this package, metrics are fractions of 1.
        main: whether it is logged after an evaluation and included in the training curves.
    """

    label: str
    percent: bool = False
    main: bool = False


METRICS = {
    'bbox_mAP': Metric('box AP', main=True),
    'bbox_mAP_50': Metric('box AP50', main=True),
    'bbox_mAP_75': Metric('box AP75'),
    'segm_mAP': Metric('mask AP', main=True),
    'segm_mAP_50': Metric('mask AP50', main=True),
    'segm_mAP_75': Metric('mask AP75'),
    'top1': Metric('top-1', percent=True, main=True),
    'top5': Metric('top-5', percent=True, main=True),
    'mIoU': Metric('mIoU', percent=True, main=True),
    'mAcc': Metric('mean accuracy', percent=True, main=True),
    'aAcc': Metric('pixel accuracy', percent=True),
    'mDice': Metric('mean Dice', percent=True),
    'mFscore': Metric('mean F-score', percent=True),
    'mPrecision': Metric('mean precision', percent=True),
    'mRecall': Metric('mean recall', percent=True),
}
"""Metrics by the toolkits' names without the evaluator's prefix, in display order."""


def flatten_metrics(metrics: dict[str, Any]) -> dict[str, float]:
    """Strip the evaluators' prefixes from the names, and scale percentages to fractions of 1."""
    flat = {name.rpartition('/')[2]: float(value) for name, value in metrics.items() if isinstance(value, Real)}
    return {name: value / 100 if name in METRICS and METRICS[name].percent else value for name, value in flat.items()}


def labelled_metrics(metrics: dict[str, Any], main: bool = False) -> dict[str, float]:
    """Select the metrics of :data:`METRICS`, or only the main ones, as fractions of 1 by label."""
    flat = flatten_metrics(metrics)
    return {m.label: flat[name] for name, m in METRICS.items() if name in flat and (m.main or not main)}


def write_summary(work_dir: str, metrics: dict[str, Any], **facts: Any) -> Path:
    """Write the flat metrics and ``facts`` about the run to ``summary.json`` in the work dir."""
    path = Path(work_dir) / 'summary.json'
    write_json(path, {**flatten_metrics(metrics), **facts})
    return path


def headline(metrics: dict[str, Any]) -> str:
    """Format the main metrics in one line."""
    quoted = [f'{label} {value:.3f}' for label, value in labelled_metrics(metrics, main=True).items()]
    return ', '.join(quoted) or 'no scores (nothing was detected, or nothing was evaluated)'
