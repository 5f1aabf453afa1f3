"""Strategies of distributed training: DDP, ZeRO (sharded optimizer state) and FSDP (sharded weights as well)."""

from typing import Any

import torch
from mmengine.config import Config

from swin_backbone.errors import InputError

STRATEGIES = {
    'ddp': 'weights, gradients and optimizer state in every process',
    'zero': 'optimizer state divided among the processes',
    'fsdp': 'weights, gradients and optimizer state divided among the processes, block by block',
}
"""Strategy -> memory layout, as shown at the start of a run."""

ZERO = 'ZeroRedundancyOptimizer'


def set_strategy(config: Config, strategy: str | None) -> None:
    """Apply ``--strategy`` or, without it, the config's ``strategy``.

    Args:
        config: a config with its launcher; changed in place.
        strategy: a key of :data:`STRATEGIES`, or None.

    Raises:
        InputError: if the strategy cannot be used with this config.
    """
    if config.get('runner_type') == 'FlexibleRunner':
        raise InputError(
            f'{config.filename}: runner_type FlexibleRunner is not supported, because it cannot resume exactly: remove '
            "it, and set strategy='fsdp' or 'zero', or use --strategy."
        )
    chosen = strategy or config.get('strategy', 'ddp')
    if not isinstance(chosen, str) or chosen not in STRATEGIES:
        raise InputError(f'{config.filename}: strategy must be one of {", ".join(STRATEGIES)}, got {chosen!r}.')
    config.strategy = chosen
    if chosen == 'ddp':
        return
    if config.launcher == 'none':
        raise InputError(
            f'strategy {chosen} needs several processes: add --gpus N, start the command with torchrun or srun and '
            '--launcher, or use --strategy ddp.'
        )
    problem = zero_problem(config) if chosen == 'zero' else fsdp_problem(config)
    if problem:
        raise InputError(f'strategy {chosen} cannot be used with {problem}')


def zero_problem(config: Config) -> str:
    """Return why ZeRO cannot be used with a config, and what to do; empty if it can."""
    name = optimizer_name(config)
    if not name:
        return 'several optimizers: use --strategy ddp.'
    if name != ZERO and not isinstance(getattr(torch.optim, name, None), type):
        return f'the optimizer {name}, which is not in torch.optim: use one of torch.optim, or --strategy fsdp.'
    return ''


def fsdp_problem(config: Config) -> str:
    """Return why FSDP cannot be used with a config, and what to do; empty if it can."""
    hooks = [type_name(hook) for hook in config.get('custom_hooks') or ()]
    average = next((name for name in hooks if name.endswith('EMAHook')), None)
    wrapper = type_name(config.get('model_wrapper_cfg') or dict(type='MMDistributedDataParallel'))
    if average:
        return f'averaged weights ({average}), which copy the whole model: remove the hook, or use --strategy zero.'
    if any(type_name(init) not in ('Pretrained', 'PretrainedInit') for init in initialisers(config)):
        return 'an init_cfg of the backbone whose type is not Pretrained: remove it, or use --strategy zero.'
    if not optimizer_name(config):
        return 'several optimizers: use --strategy ddp.'
    if optimizer_name(config) == ZERO:
        return f'{ZERO}, which divides the state already: set its inner optimizer instead, or use --strategy zero.'
    if config.get('find_unused_parameters'):
        return 'find_unused_parameters=True, because all parameters must get gradients: use --strategy zero.'
    if wrapper != 'MMDistributedDataParallel':
        return f'the model wrapper {wrapper}: remove model_wrapper_cfg.'
    if config.get('compile'):
        return 'compile=True: remove it, or use --strategy ddp.'
    return ''


def initialisers(config: Config) -> list[Any]:
    """Return the ``init_cfg`` of a config's backbone as a list."""
    init = (config.model.get('backbone') or {}).get('init_cfg') or []
    return list(init) if isinstance(init, (list, tuple)) else [init]


def optimizer_name(config: Config) -> str:
    """Return the type of the optimizer of a config; empty if there are several."""
    return type_name(config.optim_wrapper.get('optimizer') or {})


def type_name(part: Any) -> str:
    """Return the name of the type of a config dict, without its scope."""
    kind = part.get('type', '') if isinstance(part, dict) else type(part)
    return getattr(kind, '__name__', str(kind)).rpartition('.')[2]


def with_zero(optim_wrapper: dict[str, Any]) -> dict[str, Any]:
    """Return the config of an optimizer wrapper with the optimizer state divided among processes (ZeRO stage 1)."""
    optimizer = optim_wrapper['optimizer']
    if type_name(optimizer) == ZERO:
        return optim_wrapper
    return {**optim_wrapper, 'optimizer': {**optimizer, 'type': ZERO, 'optimizer_type': type_name(optimizer)}}
