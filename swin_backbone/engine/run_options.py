"""Options of `train` that each change one thing of a config."""

import logging
import os
from typing import Any

import torch
from mmengine.config import Config

from swin_backbone.engine.config import LOADERS
from swin_backbone.errors import InputError

LOGGER = logging.getLogger('swin_backbone')
COUNTS_EPOCHS = ('begin', 'end', 'T_max', 'total_steps', 'step_size', 'milestones', 'periods')
"""Options of a scheduler that count epochs where it has ``by_epoch``."""


def set_epochs(config: Config, epochs: int) -> None:
    """``--epochs``: train so many epochs, with the schedule of the learning rate shortened or lengthened likewise.

    Raises:
        InputError: the config counts iterations.
    """
    before = config.train_cfg.get('max_epochs')
    if before is None:
        raise InputError(f'{config.filename} counts iterations, not epochs: give --max-iters instead of --epochs.')
    schedulers = config.get('param_scheduler') or []
    for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
        for key in COUNTS_EPOCHS if scheduler.get('by_epoch', True) else ():
            if scheduler.get(key) is not None:
                scheduler[key] = scaled(scheduler[key], epochs / before)
    config.train_cfg.max_epochs = epochs
    config.train_cfg.val_interval = min(config.train_cfg.get('val_interval', 1), epochs)
    checkpoint = config.default_hooks.checkpoint
    if checkpoint is not None and checkpoint.get('by_epoch', True):
        checkpoint.interval = min(checkpoint.get('interval', 1), epochs)


def scaled(value: Any, factor: float) -> Any:
    """A number of epochs, or a list of them, times a factor; a number above 0 stays above 0."""
    if isinstance(value, (list, tuple)):
        return [scaled(one, factor) for one in value]
    return max(1, round(value * factor)) if value > 0 else value


def set_workers(config: Config, workers: int) -> None:
    """``--workers``: processes that load data; 0 loads them in the process of the training."""
    for loader in LOADERS:
        if config.get(loader):
            config[loader].update(num_workers=workers, persistent_workers=workers > 0)


def skip_validation(config: Config) -> None:
    """``--no-val``: evaluate nothing, and keep no best checkpoint."""
    config.val_dataloader = config.val_cfg = config.val_evaluator = None
    if (config.default_hooks.checkpoint or {}).pop('save_best', None):
        LOGGER.warning('--no-val evaluates nothing, so no best checkpoint is kept (save_best)')


def describe_machine(workers: int) -> str:
    """The device, threads and workers of a run, with a warning where other programs keep the cores busy."""
    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU'
    text = f'{device}, {threads} thread{"s" if threads > 1 else ""}, {workers} workers that load data'
    load = os.getloadavg()[0] if hasattr(os, 'getloadavg') else 0.0
    if threads > 1 and load > 1.5 * cores:
        text += (
            f'; WARNING: the load of the machine is {load:.1f} on {cores} cores, where several threads wait for each '
            'other: --threads 1 may be much faster'
        )
    return text
