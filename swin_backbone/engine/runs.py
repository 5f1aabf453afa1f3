"""Training and testing runs, built by mmengine's Runner from a prepared config."""

import time
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from swin_backbone.engine.hooks import PredictionSheetHook
from swin_backbone.engine.quiet import ignore_warnings, quiet_console
from swin_backbone.engine.results import headline, write_summary
from swin_backbone.engine.resume import read_checkpoints_safely
from swin_backbone.engine.summary import StartSummaryHook, StopBeforeTraining
from swin_backbone.openmmlab import mmcv_operators
from swin_backbone.reports.curves import draw_curves


def build_runner(config: Config) -> Runner:
    """The Runner of a config; synchronised norms become plain ones where no GPU could synchronise them."""
    read_checkpoints_safely()
    ignore_warnings()
    if 'runner_type' in config:
        runner = RUNNERS.build(config)
        quiet_console(runner.logger)
    else:
        runner = QuietRunner.from_cfg(config)
    if not torch.cuda.is_available():
        runner.model = revert_sync_batchnorm(runner.model)
    runner.register_hook(PredictionSheetHook(Path(runner.work_dir) / 'predictions.png'))
    return runner


class QuietRunner(Runner):
    """mmengine's Runner, whose console is quiet from the first line on."""

    def build_logger(self, *args: Any, **options: Any) -> MMLogger:
        """The Runner logs its environment and its config as soon as this returns."""
        logger = super().build_logger(*args, **options)
        quiet_console(logger)
        return logger


def train(config: Config, recipe_precision: str, dry_run: bool = False) -> None:
    """Train and evaluate; leaves ``summary.json``, ``curves.png`` and ``predictions.png`` in the work dir."""
    runner = build_runner(config)
    runner.register_hook(StartSummaryHook(recipe_precision, dry_run))
    started = time.perf_counter()
    try:
        runner.train()
    except StopBeforeTraining:
        return
    if runner.rank == 0:
        facts = run_facts(runner, time.perf_counter() - started)
        metrics = last_metrics(runner)
        report = write_summary(runner.work_dir, metrics, **facts)
        draw_curves(Path(runner.work_dir), Path(runner.work_dir) / 'curves.png')
        runner.logger.info(f'Result: {headline(metrics)}; {report}, predictions.png and curves.png beside it')


def last_metrics(runner: Runner) -> dict[str, Any]:
    """The figures of the last evaluation during training, as the Runner's message hub keeps them."""
    scalars = runner.message_hub.log_scalars
    return {name[4:]: float(history.current()) for name, history in scalars.items() if is_metric(name)}


def is_metric(name: str) -> bool:
    """Whether a scalar of the message hub is an evaluation result, not a time."""
    return name.startswith('val/') and name not in ('val/time', 'val/data_time')


def run_facts(runner: Runner, seconds: float) -> dict[str, Any]:
    """What a reader of the figures needs to know about the run."""
    return dict(
        config=runner.cfg.filename,
        iterations=runner.iter,
        seconds=round(seconds, 1),
        parameters=sum(p.numel() for p in runner.model.parameters()),
        torch=torch.__version__,
        mmcv_operators=mmcv_operators(),
        threads=torch.get_num_threads(),
    )
