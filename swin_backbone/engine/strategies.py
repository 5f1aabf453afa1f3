"""What the processes of a training divide: nothing (DDP), the optimizer's state (ZeRO), or weights too (FSDP)."""

from typing import Any

import torch
from mmengine.config import Config

from swin_backbone.errors import InputError

STRATEGIES = {
    'ddp': 'weights, gradients and optimizer state in each',
    'zero': 'optimizer state divided among them',
    'fsdp': 'weights, gradients and optimizer state divided among them, block by block',
}
"""The names, and what processes hold."""

ZERO = 'ZeroRedundancyOptimizer'


def set_strategy(config: Config, strategy: str | None) -> None:
    """``--strategy``, or else the config's own ``strategy``.

    Args:
        config: with its launcher; changed in place.
        strategy: a key of :data:`STRATEGIES`, or None.

    Raises:
        InputError: it cannot be used with this config.
    """
    if config.get('runner_type') == 'FlexibleRunner':
        raise InputError(
            f'{config.filename}: runner_type FlexibleRunner cannot resume exactly and is not supported: remove it, and '
            "write strategy='fsdp' or 'zero', or give --strategy."
        )
    chosen = strategy or config.get('strategy', 'ddp')
    if not isinstance(chosen, str) or chosen not in STRATEGIES:
        raise InputError(f'{config.filename}: strategy must be one of {", ".join(STRATEGIES)}, got {chosen!r}.')
    config.strategy = chosen
    if chosen == 'ddp':
        return
    if config.launcher == 'none':
        raise InputError(
            f'strategy {chosen} divides a training among processes, and there is one: add --gpus N, start the command '
            'with torchrun or srun and --launcher, or give --strategy ddp.'
        )
    problem = no_zero(config) if chosen == 'zero' else no_fsdp(config)
    if problem:
        raise InputError(f'strategy {chosen} cannot be used with {problem}')


def no_zero(config: Config) -> str:
    """Why the optimizer of a config cannot be divided, with a remedy; empty if it can."""
    name = optimizer_name(config)
    if not name:
        return 'several optimizers: give --strategy ddp.'
    if name != ZERO and not isinstance(getattr(torch.optim, name, None), type):
        return f"the optimizer {name}, which is none of PyTorch's own: choose one of torch.optim, or --strategy fsdp."
    return ''


def no_fsdp(config: Config) -> str:
    """Why a config cannot be trained in shards, with a remedy; empty if it can."""
    hooks = [type_name(hook) for hook in config.get('custom_hooks') or ()]
    average = next((name for name in hooks if name.endswith('EMAHook')), None)
    wrapper = type_name(config.get('model_wrapper_cfg') or dict(type='MMDistributedDataParallel'))
    if average:
        return f'averaged weights ({average}), which copy the whole model: remove the hook, or give --strategy zero.'
    if any(type_name(init) not in ('Pretrained', 'PretrainedInit') for init in initialisers(config)):
        return 'init_cfg of the backbone of another type than Pretrained: remove it, or give --strategy zero.'
    if not optimizer_name(config):
        return 'several optimizers: give --strategy ddp.'
    if optimizer_name(config) == ZERO:
        return f'{ZERO}, which divides the state already: name the optimizer itself, or give --strategy zero.'
    if config.get('find_unused_parameters'):
        return 'find_unused_parameters=True: in every process all parameters must get gradients; give --strategy zero.'
    if wrapper != 'MMDistributedDataParallel':
        return f'the model wrapper {wrapper}: remove model_wrapper_cfg.'
    if config.get('compile'):
        return 'compile=True: remove it, or give --strategy ddp.'
    return ''


def initialisers(config: Config) -> list[Any]:
    """What ``init_cfg`` of the backbone of a config lists."""
    init = (config.model.get('backbone') or {}).get('init_cfg') or []
    return list(init) if isinstance(init, (list, tuple)) else [init]


def optimizer_name(config: Config) -> str:
    """The type of the optimizer of a config; empty if there are several."""
    return type_name(config.optim_wrapper.get('optimizer') or {})


def type_name(part: Any) -> str:
    """The name of the type of a part of a config, without a scope."""
    kind = part.get('type', '') if isinstance(part, dict) else type(part)
    return getattr(kind, '__name__', str(kind)).rpartition('.')[2]


def divided(optim_wrapper: dict[str, Any]) -> dict[str, Any]:
    """The config of an optimizer wrapper whose optimizer has its state divided among the processes (ZeRO, stage 1)."""
    optimizer = optim_wrapper['optimizer']
    if type_name(optimizer) == ZERO:
        return optim_wrapper
    return {**optim_wrapper, 'optimizer': {**optimizer, 'type': ZERO, 'optimizer_type': type_name(optimizer)}}
