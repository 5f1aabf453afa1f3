"""Checks of the keys and values of a config before anything is built or written."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from mmengine.config import Config

from swin_backbone.engine.config import LOADERS
from swin_backbone.errors import InputError


def is_whole(least: int) -> Callable[[Any], bool]:
    """Return a predicate for integers of at least ``least``."""
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_count(value: Any) -> bool:
    """Return whether a value is a whole number of at least 1; floats are allowed, because configs divide."""
    return is_whole(1)(value) or (isinstance(value, float) and value.is_integer() and value >= 1)


def is_positive(value: Any) -> bool:
    """Return whether a value is a finite number above 0."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf


def are_positive(value: Any) -> bool:
    """Return whether a value is a non-empty list of finite numbers above 0."""
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(map(is_positive, value))


RANGES: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    *((f'{loader}.batch_size', is_whole(1), 'an integer of at least 1') for loader in LOADERS),
    *((f'{loader}.num_workers', is_whole(0), 'an integer of at least 0') for loader in LOADERS),
    ('optim_wrapper.optimizer.lr', is_positive, 'a number above 0'),
    ('optim_wrapper.optimizer.weight_decay', lambda v: v == 0 or is_positive(v), 'a number of at least 0'),
    ('optim_wrapper.accumulative_counts', is_whole(1), 'an integer of at least 1'),
    ('optim_wrapper.clip_grad.max_norm', is_positive, 'a number above 0'),
    ('train_cfg.max_epochs', is_count, 'an integer of at least 1'),
    ('train_cfg.max_iters', is_count, 'an integer of at least 1'),
    ('train_cfg.val_interval', is_count, 'an integer of at least 1'),
    ('auto_scale_lr.base_batch_size', is_positive, 'a number above 0'),
    ('randomness.seed', lambda v: is_whole(0)(v) and v < 2**32, 'an integer from 0 to 4294967295'),
    ('tta_factors', are_positive, 'a list of numbers above 0, such as [0.75,1.0,1.25]'),
)
"""Allowed values of config keys: key, predicate, and description of the expected value."""


def require_training(config: Config) -> None:
    """Check that a config can be trained.

    Raises:
        InputError: if it has no training data, loop or optimizer.
    """
    missing = [key for key in ('train_dataloader', 'train_cfg', 'optim_wrapper') if not config.get(key)]
    if missing:
        raise InputError(f'{config.filename} cannot be trained: it has no {", ".join(missing)}; add them.')


TEST_KEYS = ('test_dataloader', 'test_cfg', 'test_evaluator')


def require_test(config: Config, keys: Sequence[str] = TEST_KEYS) -> None:
    """Check that a config can be used for testing or prediction.

    Raises:
        InputError: if one of ``keys`` is missing, or the config has several test sets.
    """
    missing = [key for key in keys if config.get(key) is None]
    if missing:
        raise InputError(f'{config.filename} cannot be tested: it has no {", ".join(missing)}; add them.')
    node = config.test_dataloader.get('dataset') or {}
    while 'dataset' in node:
        node = node['dataset']
    if 'pipeline' not in node:
        raise InputError(
            f'{config.filename}: test_dataloader has {node.get("type") or "no data set"} without a pipeline, but tests '
            'need a single data set: use one with the merged annotations.'
        )


def check_ranges(config: Config) -> None:
    """Check the values of a config against :data:`RANGES`.

    Raises:
        InputError: if a value is invalid; the message has the key, its value and the expected range.
    """
    for key, fits, expected in RANGES:
        node: Any = config
        for part in key.split('.'):
            node = node.get(part) if isinstance(node, (dict, Config)) else None
        if node is not None and not fits(node):
            raise InputError(f'{key} must be {expected}, got {node!r}: change it in the config or with --cfg-options.')
