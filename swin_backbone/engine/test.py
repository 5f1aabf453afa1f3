"""Test runs: unrounded scores, submission files, and an HTML report."""

import json
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from swin_backbone.checkpoint.published import Weights
from swin_backbone.engine.config import use_own_types
from swin_backbone.engine.hooks import WholeModelHook
from swin_backbone.engine.submission import Submission
from swin_backbone.engine.train import build_runner
from swin_backbone.evaluation.charts import Confusion, scores_of
from swin_backbone.evaluation.gallery import draw_sample
from swin_backbone.evaluation.page import Section
from swin_backbone.evaluation.report import (
    curves_section,
    detection_sections,
    images_section,
    segmentation_sections,
    write_report,
)
from swin_backbone.evaluation.results import METRICS, flatten_metrics, labelled_metrics, write_summary
from swin_backbone.mmcv_ops import mmcv_operators


def run_test(
    config: Config,
    views: int = 1,
    show_dir: str | None = None,
    submission: Submission | None = None,
    released: Weights | None = None,
) -> dict[str, Any]:
    """Evaluate a checkpoint and write ``summary.json`` and ``predictions.png`` to the work dir.

    Those of a training in the same work dir are kept as ``training_summary.json`` and ``training_predictions.png``.

    Args:
        config: a prepared config; ``load_from`` is the checkpoint.
        views: number of views per image in the config, which is recorded in the summary.
        show_dir: folder for a report with images, tables and curves.
        submission: the submission that the config writes instead of scores.
        released: published facts about the checkpoint, whose scores are compared with the measured ones.

    Raises:
        InputError: if the checkpoint belongs to a different model.
    """
    if submission is None:
        use_own_types(config)
    runner = build_runner(config)
    runner.register_hook(WholeModelHook())
    if show_dir is not None:
        runner.register_hook(GalleryHook(show_dir))
    if runner.rank == 0:
        keep_training_results(Path(runner.work_dir))
    started = time.perf_counter()
    metrics = runner.test()
    if runner.rank != 0:
        return metrics
    seconds = time.perf_counter() - started
    images = len(runner.test_dataloader.dataset)
    facts = dict(
        checkpoint=config.load_from,
        views=views,
        images=images,
        seconds=round(seconds, 1),
        mmcv_operators=mmcv_operators(),
    )
    published = released.fractions(views) if released is not None else {}
    summary = write_summary(runner.work_dir, metrics, **facts, **({'published': published} if published else {}))
    print_log(f'Summary: {summary}', 'current')
    if released is not None and submission is None:
        print_log(compare_with_published(metrics, published, images, released.images), 'current')
    if submission is not None:
        for path in submission.finish():
            print_log(f'Submission file: {path}', 'current')
        if not submission.public:
            print_log(
                f'The test set was not found in the data root: these are predictions for {submission.split!r}.',
                'current',
                logging.WARNING,
            )
    if show_dir is not None:
        print_log(f'Report: {report_of_run(runner, Path(show_dir), metrics, facts)}', 'current')
    return metrics


def keep_training_results(work_dir: Path) -> None:
    """Copy the summary and the predictions of a training in the work dir, which a test overwrites."""
    try:
        is_training = 'iterations' in json.loads((work_dir / 'summary.json').read_text())
    except (OSError, ValueError):
        return
    for name in ('summary.json', 'predictions.png') if is_training else ():
        if (work_dir / name).is_file():
            shutil.copy2(work_dir / name, work_dir / f'training_{name}')


def compare_with_published(metrics: dict[str, Any], published: Mapping[str, float], images: int, of: int) -> str:
    """Return a line that compares measured with published scores.

    Args:
        metrics: the metrics returned by the test.
        published: published scores as fractions, keyed by their names in ``summary.json``.
        images: number of tested images.
        of: number of images of the published scores.
    """
    measured = flatten_metrics(metrics)
    pairs = [
        f'{METRICS[name].label} {measured[name]:.4f} (published: {score:g})'
        for name, score in published.items()
        if name in measured
    ]
    if not pairs:
        return 'No scores were published for this kind of test of the released model.'
    other = '' if images == of else f'; this test has {images} images, the published one had {of}'
    return f'Measured: {", ".join(pairs)}{other}'


FOLDER = 'images'


class GalleryHook(Hook):
    """Writes drawings of every tested image, ground truth next to prediction, to ``<folder>/images``.

    Args:
        folder: the folder of the report.
    """

    priority = 'LOW'

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder) / FOLDER
        self._names: set[str] = set()

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """Draw the images of one batch."""
        import mmcv

        for sample in outputs or ():
            drawing = draw_sample(sample, runner.test_dataloader.dataset.metainfo)
            mmcv.imwrite(drawing[..., ::-1].copy(), str(self.folder / self.name_for(Path(sample.img_path))))

    def name_for(self, path: Path) -> str:
        """Return a unique file name for the drawing of an image."""
        name = path.stem if path.stem not in self._names else f'{path.parent.name}_{path.name}'
        self._names.add(path.stem)
        return f'{name}.png'


def report_of_run(runner: Runner, folder: Path, metrics: dict[str, Any], facts: dict[str, Any]) -> Path:
    """Write the report of a finished test with the images drawn by :class:`GalleryHook`.

    Args:
        runner: the runner after ``test()``, in the first process.
        folder: the folder of the report.
        metrics: the metrics returned by the test.
        facts: ``checkpoint``, ``views`` and ``seconds`` of the run.

    Returns:
        The HTML file.
    """
    checkpoint, seconds, images = facts['checkpoint'], facts['seconds'], len(runner.test_dataloader.dataset)
    listed = {
        'config': runner.cfg.filename,
        'checkpoint': checkpoint,
        'tested with': 'one scale, no flip' if facts['views'] == 1 else f'{facts["views"]} scales and flips, merged',
        'images': images,
        'time': f'{seconds:g} s, {seconds / max(1, images):.2f} s per image, including evaluation and drawing',
    }
    sections = [
        *sections_of(runner),
        *curves_section(Path(checkpoint).parent),
        *images_section((folder / FOLDER).glob('*.png')),
    ]
    return write_report(folder, Path(runner.cfg.filename).stem, labelled_metrics(metrics), listed, sections)


def sections_of(runner: Runner) -> list[Section]:
    """Build the report sections of metrics that store curves or a confusion matrix."""
    sections = []
    for metric in runner.test_evaluator.metrics:
        if getattr(metric, 'evaluations', None):
            sections += detection_sections({kind: scores_of(found) for kind, found in metric.evaluations.items()})
        elif getattr(metric, 'matrix', None) is not None:
            sections += segmentation_sections(Confusion(tuple(metric.dataset_meta['classes']), metric.matrix))
    return sections
