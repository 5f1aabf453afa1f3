"""Options that run a recipe on different hardware: one GPU with the same batch size, and bfloat16."""

from typing import Any

import torch
from mmengine.config import Config

from swin_backbone.engine.config import has_accelerator, recipe_batch_size
from swin_backbone.errors import InputError

COUNTS_ITERATIONS = ('begin', 'end', 'T_max', 'total_steps', 'step_size', 'milestones', 'periods')
"""Scheduler options that count iterations unless ``by_epoch`` is true."""

LOOP_ITERATIONS = ('max_iters', 'val_interval', 'val_begin')


def use_one_gpu(config: Config) -> None:
    """Apply ``--one-gpu``: accumulate gradients in one process up to the recipe's batch size.

    Everything that counts iterations is scaled to happen at the same optimizer steps: the schedule, the length of
    training, evaluations, checkpoints and weight averaging.

    Raises:
        InputError: if there are several processes, or the batch size does not divide that of the recipe.
    """
    if config.get('launcher', 'none') != 'none':
        raise InputError('--one-gpu is for a single process: leave --launcher out.')
    batch, wrapper = config.train_dataloader.batch_size, config.optim_wrapper
    recipe = int(recipe_batch_size(config, '--one-gpu'))
    before = wrapper.get('accumulative_counts', 1)
    factor, rest = divmod(recipe, batch * before)
    if rest or not factor:
        fitting = [size for size in range(1, recipe + 1) if recipe % (size * before) == 0]
        raise InputError(
            f"--one-gpu cannot accumulate the recipe's batch size of {recipe} with "
            f'train_dataloader.batch_size={batch} and optim_wrapper.accumulative_counts={before}: set the batch size '
            f'to one of {", ".join(map(str, fitting))}.'
        )
    if factor > 1:
        wrapper.accumulative_counts = before * factor
        stretch(config, factor)


def stretch(config: Config, factor: int) -> None:
    """Multiply every option of a config that counts training iterations."""
    schedulers = config.get('param_scheduler') or []
    for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
        if not scheduler.get('by_epoch', True):
            multiply(scheduler, COUNTS_ITERATIONS, factor)
    if 'max_iters' in config.train_cfg:
        multiply(config.train_cfg, LOOP_ITERATIONS, factor)
    hooks = [config.default_hooks.checkpoint, *(config.get('custom_hooks') or [])]
    for hook in filter(None, hooks):
        kind = hook.get('type')
        if kind == 'EMAHook' or (kind == 'CheckpointHook' and not hook.get('by_epoch', True)):
            hook['interval'] = hook.get('interval', 1) * factor


def multiply(options: Any, keys: tuple[str, ...], factor: int) -> None:
    """Multiply the existing options among ``keys``, which are numbers or lists of numbers, in place."""
    for key in keys:
        value = options.get(key)
        if isinstance(value, (list, tuple)):
            options[key] = [factor * one for one in value]
        elif value is not None:
            options[key] = factor * value


def use_bfloat16(config: Config) -> None:
    """Apply ``--bf16``: autocast to bfloat16 without loss scaling, instead of the recipe's precision.

    Raises:
        InputError: if no GPU is visible, the GPU does not support bfloat16, or the optimizer wrapper is not supported.
    """
    if not has_accelerator():
        raise InputError('--bf16 needs a GPU and none is visible: leave it out to train in float32.')
    if torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise InputError('this GPU does not support bfloat16 (compute capability 8.0): use --amp for float16.')
    wrapper = config.optim_wrapper
    if wrapper.type not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise InputError(f'--bf16 cannot change optim_wrapper.type={wrapper.type}: set its dtype in the config.')
    wrapper.update(type='AmpOptimWrapper', dtype='bfloat16', loss_scale=dict(enabled=False))
