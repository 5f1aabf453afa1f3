"""Testing runs: exact figures, files for servers, and a report to look at."""

import logging
import time
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from swin_backbone.engine.gallery import GalleryHook
from swin_backbone.engine.hooks import WholeModelHook
from swin_backbone.engine.reporting import report_of_run
from swin_backbone.engine.results import write_summary
from swin_backbone.engine.runs import build_runner
from swin_backbone.engine.servers import Submission
from swin_backbone.openmmlab import mmcv_operators

EXACT_METRICS = {'CocoMetric': 'swin_backbone.CocoMetric', 'IoUMetric': 'swin_backbone.IoUMetric'}
"""The toolkits' metrics round what they report; these compute the same figures."""


def use_exact_metrics(config: Config) -> None:
    """Let a test report its figures to full precision."""
    evaluators = config.test_evaluator if isinstance(config.test_evaluator, list) else [config.test_evaluator]
    for evaluator in evaluators:
        evaluator.type = EXACT_METRICS.get(evaluator.type.rpartition('.')[2], evaluator.type)


def run_test(
    config: Config, views: int = 1, show_dir: str | None = None, submission: Submission | None = None
) -> dict[str, Any]:
    """Evaluate a checkpoint; leaves ``summary.json`` and ``predictions.png`` in the work dir.

    Args:
        config: a prepared config; ``load_from`` is the checkpoint.
        views: how many views of a picture the config tests, for the record.
        show_dir: where to write a report with pictures, tables and curves.
        submission: what the config writes for a server instead of scoring.

    Raises:
        InputError: the checkpoint is of another model.
    """
    if submission is None:
        use_exact_metrics(config)
    runner = build_runner(config)
    runner.register_hook(WholeModelHook())
    if show_dir is not None:
        runner.register_hook(GalleryHook(show_dir))
    started = time.perf_counter()
    metrics = runner.test()
    if runner.rank != 0:
        return metrics
    seconds = time.perf_counter() - started
    pictures = len(runner.test_dataloader.dataset)
    facts = dict(
        checkpoint=config.load_from,
        views=views,
        pictures=pictures,
        seconds=round(seconds, 1),
        mmcv_operators=mmcv_operators(),
    )
    summary = write_summary(runner.work_dir, metrics, **facts)
    print_log(f'Summary: {summary}', 'current')
    if submission is not None:
        for path in submission.finish():
            print_log(f'For the server: {path}', 'current')
        if not submission.public:
            print_log(
                f'These are predictions for {submission.split!r}: the test set was not found under the data root.',
                'current',
                logging.WARNING,
            )
    if show_dir is not None:
        print_log(f'Report: {report_of_run(runner, Path(show_dir), metrics, facts)}', 'current')
    return metrics
