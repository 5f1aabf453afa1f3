"""Small options of `train` that change a config."""

import logging
import os
from typing import Any

import torch
from mmengine.config import Config

from swin_backbone.engine.config import LOADERS
from swin_backbone.errors import InputError

LOGGER = logging.getLogger('swin_backbone')
COUNTS_EPOCHS = ('begin', 'end', 'T_max', 'total_steps', 'step_size', 'milestones', 'periods')
"""Scheduler options that count epochs if ``by_epoch`` is true."""


def set_epochs(config: Config, epochs: int) -> None:
    """Apply ``--epochs``: train this number of epochs, and scale the learning rate schedule accordingly.

    Raises:
        InputError: if the config counts iterations.
    """
    before = config.train_cfg.get('max_epochs')
    if before is None:
        raise InputError(f'{config.filename} counts iterations, not epochs: use --max-iters instead of --epochs.')
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
    """Scale a number of epochs, or a list of them; positive numbers become at least 1."""
    if isinstance(value, (list, tuple)):
        return [scaled(one, factor) for one in value]
    return max(1, round(value * factor)) if value > 0 else value


def set_workers(config: Config, workers: int) -> None:
    """Apply ``--workers``: number of data loading processes; 0 loads data in the training process."""
    for loader in LOADERS:
        if config.get(loader):
            config[loader].update(num_workers=workers, persistent_workers=workers > 0)


def skip_validation(config: Config) -> None:
    """Apply ``--no-val``: disable evaluation and the best checkpoint."""
    config.val_dataloader = config.val_cfg = config.val_evaluator = None
    if (config.default_hooks.checkpoint or {}).pop('save_best', None):
        LOGGER.warning('--no-val disables evaluation, so no best checkpoint is saved (save_best)')


def describe_machine(workers: int) -> str:
    """Return device, threads and workers of a run, with a warning if other programs use the cores."""
    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU'
    processes = f'{workers} data loading worker{"s" if workers != 1 else ""}'
    text = f'{device}, {threads} thread{"s" if threads > 1 else ""}, {processes}'
    load = os.getloadavg()[0] if hasattr(os, 'getloadavg') else 0.0
    if threads > 1 and load > 1.5 * cores:
        text += (
            f'; WARNING: the load of the machine is {load:.1f} on {cores} cores, so threads wait for each other: '
            '--threads 1 may be much faster'
        )
    return text
