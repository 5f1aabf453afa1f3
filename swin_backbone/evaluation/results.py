"""The figures of a run as one flat JSON file."""

from numbers import Real
from pathlib import Path
from typing import Any

from swin_backbone.files import write_json

PERCENTAGES = ('aAcc', 'mIoU', 'mAcc', 'mDice', 'mFscore', 'mPrecision', 'mRecall')
"""What MMSegmentation reports in percent; a summary holds fractions of 1 throughout."""

HEADLINES = {
    'bbox_mAP': 'box AP',
    'bbox_mAP_50': 'box AP50',
    'segm_mAP': 'mask AP',
    'segm_mAP_50': 'mask AP50',
    'mIoU': 'mIoU',
}


def flatten_metrics(metrics: dict[str, Any]) -> dict[str, float]:
    """Metric names without the prefix of their evaluator, values as fractions of 1."""
    flat = {name.rpartition('/')[2]: float(value) for name, value in metrics.items() if isinstance(value, Real)}
    return {name: value / 100 if name in PERCENTAGES else value for name, value in flat.items()}


def write_summary(work_dir: str, metrics: dict[str, Any], **facts: Any) -> Path:
    """Write ``summary.json`` into the work dir: the flat metrics, and ``facts`` about the run."""
    path = Path(work_dir) / 'summary.json'
    write_json(path, {**flatten_metrics(metrics), **facts})
    return path


def headline(metrics: dict[str, Any]) -> str:
    """The figures that people quote, in one line."""
    flat = flatten_metrics(metrics)
    quoted = [f'{title} {flat[name]:.3f}' for name, title in HEADLINES.items() if name in flat]
    return ', '.join(quoted) or 'no figures (nothing was detected, or nothing was evaluated)'
