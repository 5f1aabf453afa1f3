"""From a finished test to its report."""

from pathlib import Path
from typing import Any

from mmengine.runner import Runner

from swin_backbone.engine.gallery import FOLDER
from swin_backbone.engine.results import flatten_metrics
from swin_backbone.reports.detection import scores_of
from swin_backbone.reports.page import Section
from swin_backbone.reports.report import (
    curves_section,
    detection_sections,
    pictures_section,
    segmentation_sections,
    write_report,
)
from swin_backbone.reports.segmentation import Confusion

SHOWN = {
    'bbox_mAP': 'box AP',
    'bbox_mAP_50': 'box AP50',
    'bbox_mAP_75': 'box AP75',
    'segm_mAP': 'mask AP',
    'segm_mAP_50': 'mask AP50',
    'segm_mAP_75': 'mask AP75',
    'mIoU': 'mIoU',
    'mAcc': 'mean accuracy',
    'aAcc': 'pixels right',
}


def report_of_run(runner: Runner, folder: Path, metrics: dict[str, Any], facts: dict[str, Any]) -> Path:
    """Write the report of a test that has ended; the pictures are those that the gallery has drawn.

    Args:
        runner: after ``test()``, on the first process.
        folder: of the report.
        metrics: what the test returned.
        facts: about the run; ``checkpoint``, ``views``, ``pictures`` and ``seconds``.

    Returns:
        The page.
    """
    flat = flatten_metrics(metrics)
    figures = {SHOWN[name]: flat[name] for name in SHOWN if name in flat}
    checkpoint, pictures = facts['checkpoint'], max(1, facts['pictures'])
    listed = {
        'config': runner.cfg.filename,
        'checkpoint': checkpoint,
        'tested with': 'one scale, no flip' if facts['views'] == 1 else f'{facts["views"]} scales and flips, merged',
        'pictures': facts['pictures'],
        'time': f'{facts["seconds"]:g} s, {facts["seconds"] / pictures:.2f} s a picture, with evaluation and drawing',
    }
    sections = [
        *sections_of(runner),
        *curves_section(Path(checkpoint).parent),
        *pictures_section((folder / FOLDER).glob('*.png')),
    ]
    return write_report(folder, Path(runner.cfg.filename).stem, figures, listed, sections)


def sections_of(runner: Runner) -> list[Section]:
    """What the run's own metrics have kept to be looked at."""
    sections = []
    for metric in runner.test_evaluator.metrics:
        if getattr(metric, 'evaluations', None):
            sections += detection_sections({kind: scores_of(found) for kind, found in metric.evaluations.items()})
        elif getattr(metric, 'matrix', None) is not None:
            sections += segmentation_sections(Confusion(tuple(metric.dataset_meta['classes']), metric.matrix))
    return sections
