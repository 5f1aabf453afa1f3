"""Loading of configs, and the changes that command-line options make to an mmengine ``Config``."""

import copy
import os
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from mmengine.config import Config, DictAction
from mmengine.config import config as reading
from mmengine.config import utils as reading_utils
from mmengine.config.utils import MODULE2PACKAGE

from swin_backbone.engine.error_explanations import reading_problem, shorten
from swin_backbone.engine.path_check import check_launcher, check_writable
from swin_backbone.errors import InputError
from swin_backbone.files import find_config

# For each base config `mmdet::...`, mmengine reloads the list of installed packages and parses the toolkit's metafiles
# again, which takes most of the time of reading a config.
IS_INSTALLED, LOAD_METAFILE = cache(reading.is_installed), cache(reading_utils.load)

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
EVALUATORS = ('val_evaluator', 'test_evaluator')
OWN_METRICS = {'CocoMetric': 'swin_backbone.CocoMetric', 'IoUMetric': 'swin_backbone.IoUMetric'}
"""Replacements for the toolkits' metrics, which round scores and, in CocoMetric, need annotation ids from 1."""


def load_config(name: str, overrides: Sequence[str] | None = None) -> Config:
    """Read a config and apply ``--cfg-options``.

    Args:
        name: a path, or the name of an installed config.
        overrides: ``key=value`` pairs in mmengine's syntax.

    Raises:
        InputError: if the file is missing or cannot be read as a config.
    """
    path = str(find_config(name))
    name_forks()
    options = parse_overrides(overrides or ())
    try:
        with patch.object(reading, 'is_installed', IS_INSTALLED), patch.object(reading_utils, 'load', LOAD_METAFILE):
            config = Config.fromfile(path)
    except Exception as error:
        for function in (IS_INSTALLED, LOAD_METAFILE):
            function.cache_clear()  # before the next call, the missing package may have been installed
        raise InputError(reading_problem(path, error)) from error
    merge_options(config, options)
    if not isinstance(config.get('model'), dict):
        raise InputError(f'config {path} has no model: give the config of a detector, segmenter or classifier.')
    write_defaults(config)
    return config


def merge_options(config: Config, options: dict[str, Any]) -> None:
    """Merge ``--cfg-options`` into a config.

    Raises:
        InputError: if an option does not fit; the message names it.
    """
    before = copy.deepcopy(config._cfg_dict)
    try:
        config.merge_from_dict(options)
    except Exception as error:
        key = next((key for key in options if not fits(before, {key: options[key]})), ', '.join(options))
        reason = str(error).split(' of list ')[0].split(' You may set')[0].rstrip('.')
        raise InputError(f'--cfg-options {key} does not fit {config.filename}: {shorten(reason)}.') from error


def fits(content: Any, options: dict[str, Any]) -> bool:
    """Return whether options can be merged into the content of a config."""
    try:
        Config(copy.deepcopy(content)).merge_from_dict(options)
    except Exception:
        return False
    return True


def write_defaults(config: Config) -> None:
    """Add mmengine's defaults to a config, so that later changes can rely on the keys being there."""
    hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1), logger=dict(type='LoggerHook'))
    config.default_hooks = {**hooks, **(config.get('default_hooks') or {})}
    config.env_cfg = {'dist_cfg': dict(backend='nccl'), **(config.get('env_cfg') or {})}
    if not config.get('visualizer'):
        config.visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])
    if config.get('optim_wrapper'):
        config.optim_wrapper.setdefault('type', 'OptimWrapper')
    for loader in LOADERS:
        if (config.get(loader) or {}).get('num_workers') == 0:
            config[loader].persistent_workers = False  # PyTorch rejects True without workers
        for data_set in dicts_in(config.get(loader) or {}):
            split = data_set.get('split') if data_set.get('type') == 'ImageNet' else ''
            prefix = data_set.get('data_prefix') or split
            if prefix and isinstance(prefix, str):  # MMPretrain's shorthand
                data_set['data_prefix'] = dict(img_path=prefix)


def parse_overrides(
    pairs: Sequence[str], option: str = '--cfg-options', example: str = 'train_cfg.max_epochs=12'
) -> dict[str, Any]:
    """Parse the ``key=value`` pairs of an option in mmengine's syntax.

    Raises:
        InputError: if a pair has no ``=``.
    """
    for pair in pairs:
        if '=' not in pair:
            raise InputError(f'{option} {pair} is not KEY=VALUE: write, for example, {example}.')
    parser = ArgumentParser()
    parser.add_argument('--options', nargs='+', action=DictAction, default={})
    return vars(parser.parse_args(['--options', *pairs] if pairs else []))['options']


@cache
def name_forks() -> None:
    """Make mmengine find ``mmseg::`` configs of the maintained forks.

    mmengine looks them up by distribution name, which differs for the forks; the module name works for both.
    """
    for module, package in MODULE2PACKAGE.items():
        if find_spec(module) is not None and not is_installed_as(package):
            MODULE2PACKAGE[module] = module


def is_installed_as(name: str) -> bool:
    """Return whether a distribution or a module of this name is installed."""
    try:
        distribution(name)  # packages_distributions() reads the files of every distribution and takes half a second
    except PackageNotFoundError:
        return find_spec(name) is not None
    return True


def set_work_dir(config: Config, work_dir: str | None, config_path: str) -> None:
    """Set the work dir of a run: the option, else the config's, else ``work_dirs/<config name>``.

    Raises:
        InputError: if it is not writable.
    """
    if work_dir is not None:
        config.work_dir = work_dir
    elif config.get('work_dir') is None:
        config.work_dir = str(Path('work_dirs') / Path(config_path).stem)
    check_writable(config.work_dir, '--work-dir')


def dicts_in(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every dict inside nested dicts and lists, outer ones first."""
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ():
        yield from dicts_in(child)


def map_strings(node: Any, change: Callable[[str], str]) -> Any:
    """Apply ``change`` to every string value in nested dicts and lists."""
    if isinstance(node, dict):
        for key, value in node.items():
            node[key] = map_strings(value, change)
        return node
    if isinstance(node, (list, tuple)):
        return type(node)(map_strings(value, change) for value in node)
    return change(node) if isinstance(node, str) else node


def move_data_root(config: Config, root: str) -> None:
    """Replace the data roots of a config, and all paths below them, by ``root``.

    Raises:
        InputError: if the folder does not exist, or the config has no data root.
    """
    if not Path(root).is_dir():
        raise InputError(f'--data-root {root} is not a folder: give the folder of the data set.')
    olds = {d['data_root'].rstrip('/') for d in dicts_in(config._cfg_dict) if isinstance(d.get('data_root'), str)}
    if not olds:
        raise InputError('--data-root cannot be applied, because the config has no data_root: leave it out.')

    def change(value: str) -> str:
        for old in olds:
            if value == old or value.startswith(old + '/'):
                return root.rstrip('/') + value[len(old) :]
        return value

    for key in (*LOADERS, *EVALUATORS, 'data_root'):
        if key in config:
            config[key] = map_strings(config[key], change)


def missing_data(config: Config, loaders: tuple[str, ...]) -> list[str]:
    """Return the local files and folders of the data sets of ``loaders`` that do not exist."""
    paths: list[str] = []
    folders: set[str] = set()
    for loader in loaders:
        for data_set in dicts_in(config.get(loader) or {}):
            root = data_set.get('data_root')
            if not isinstance(root, str):
                continue
            prefixes = [prefix for key, prefix in (data_set.get('data_prefix') or {}).items() if is_read(data_set, key)]
            names = [data_set.get('ann_file'), *prefixes]
            paths += [os.path.join(root, name) for name in names if isinstance(name, str) and name]
            folders.update(os.path.join(root, name) for name in prefixes if isinstance(name, str) and name)
    # A symbolic link to a folder becomes a plain file if a copy does not preserve links.
    present = {path for path in paths if os.path.exists(path) and not (path in folders and os.path.isfile(path))}
    return sorted({path for path in paths if '://' not in path} - present)


def is_read(data_set: Any, prefix: str) -> bool:
    """Return whether a data set reads the folder of a prefix.

    CocoDataset reads semantic maps only if a pipeline step loads them. Instance configs that are derived from panoptic
    ones still list the folder.
    """
    if prefix != 'seg' or str(data_set.get('type')).rpartition('.')[2] != 'CocoDataset':
        return True
    return any(step.get('with_seg') for step in dicts_in(data_set.get('pipeline')))


def check_data(config: Config, loaders: tuple[str, ...]) -> None:
    """Check that the files and folders of the data sets exist.

    Raises:
        InputError: if some are missing; the message lists them.
    """
    missing = missing_data(config, loaders)
    if missing:
        rest = f' and {len(missing) - 3} more' if len(missing) > 3 else ''
        raise InputError(
            f'the data set is incomplete: {", ".join(missing[:3])}{rest} not found; set its folder with --data-root, '
            'or create one with swin-backbone prepare-data.'
        )


def set_weights(config: Config, weights: str | None) -> None:
    """Apply ``--weights``: a published name, path or URL for the backbone, or 'none' to train from scratch."""
    if weights is None:
        return
    init = None if weights == 'none' else dict(type='Pretrained', checkpoint=weights)
    config.model.backbone.init_cfg = init
    if config.model.get('pretrained') is not None:
        config.model.pretrained = None


def has_accelerator() -> bool:
    """Return whether there is a device that supports mmengine's mixed precision."""
    from mmengine.device import is_cuda_available, is_musa_available, is_npu_available

    return bool(is_cuda_available() or is_npu_available() or is_musa_available())


def set_precision(config: Config, amp: bool) -> None:
    """Apply ``--amp``, and disable the mixed precision of a recipe if there is no accelerator.

    Raises:
        InputError: if ``amp`` is True without an accelerator.
    """
    if amp and not has_accelerator():
        raise InputError('--amp needs a GPU and none is visible: leave it out to train in float32.')
    wrapper = config.optim_wrapper
    if amp and wrapper.type == 'OptimWrapper':
        wrapper.type = 'AmpOptimWrapper'
        wrapper.setdefault('loss_scale', 'dynamic')
    if wrapper.type == 'AmpOptimWrapper' and not has_accelerator():
        wrapper.type = 'OptimWrapper'
        wrapper.pop('loss_scale', None)
        wrapper.pop('dtype', None)


def recipe_batch_size(config: Config, option: str) -> float:
    """Return the batch size per optimizer step for which the learning rate of a config is set.

    Raises:
        InputError: if the config does not define it; the message names ``option``, which needs it.
    """
    scaling = config.get('auto_scale_lr') or {}
    if 'base_batch_size' not in scaling:
        raise InputError(f'{option} needs auto_scale_lr.base_batch_size in the config: add it with --cfg-options.')
    return scaling.get('recipe_batch_size', scaling['base_batch_size'])


def set_learning_rate_scaling(config: Config) -> None:
    """Apply ``--auto-scale-lr``: scale the learning rate with the batch size relative to the recipe's.

    Raises:
        InputError: if the config does not define the batch size of its learning rate.
    """
    recipe, scaling = recipe_batch_size(config, '--auto-scale-lr'), config.auto_scale_lr
    # mmengine compares base_batch_size with the images of one iteration, an optimizer step may accumulate several.
    scaling.update(
        enable=True,
        recipe_batch_size=recipe,
        base_batch_size=recipe / config.optim_wrapper.get('accumulative_counts', 1),
    )


def limit_iterations(config: Config, iterations: int) -> None:
    """Apply ``--max-iters``: train this many iterations of the unchanged schedule, and evaluate once at the end."""
    if iterations < 1:
        raise InputError(f'--max-iters must be at least 1, got {iterations}.')
    config.train_cfg = dict(type='IterBasedTrainLoop', max_iters=iterations, val_interval=iterations)
    config.log_processor = dict(config.get('log_processor') or dict(type='LogProcessor'), by_epoch=False)
    set_checkpoint_interval(config, iterations, by_epoch=False)
    logger = config.default_hooks.logger
    if logger is not None:
        logger.interval = min(logger.get('interval', 10), max(1, iterations // 10))


def set_checkpoint_interval(config: Config, interval: int, **options: Any) -> None:
    """Apply ``--checkpoint-interval``, which has no effect on a config that saves no checkpoints."""
    if config.default_hooks.checkpoint is not None:
        config.default_hooks.checkpoint.update(interval=interval, **options)


def set_launcher(config: Config, launcher: str) -> None:
    """Apply ``--launcher``; processes without GPUs communicate over gloo and do not synchronise batch norms."""
    check_launcher(launcher)
    config.launcher = launcher
    if launcher == 'none' or torch.cuda.is_available():
        return
    config.env_cfg.dist_cfg.backend = 'gloo'
    config.model = map_strings(config.model, lambda name: 'BN' if name == 'SyncBN' else name)
    # mmengine's initialisation and its default wrapper assign a GPU to each process with any backend.
    if launcher == 'pytorch':
        torch.distributed.init_process_group('gloo')
    unused = config.get('find_unused_parameters', False)
    config.setdefault(
        'model_wrapper_cfg',
        dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False, find_unused_parameters=unused),
    )


def keep_predictions(config: Config, path: str) -> None:
    """Apply ``--out``: save the raw predictions in addition to evaluating them.

    Raises:
        InputError: if the name does not end in ``.pkl`` or is not writable.
    """
    if not path.endswith(('.pkl', '.pickle')):
        raise InputError(f'--out must be a .pkl file, got {path}.')
    if Path(path).is_dir():
        raise InputError(f'--out {path} is a folder: give a file.')
    check_writable(Path(path).parent, '--out')
    detection = config.get('default_scope') == 'mmdet'
    dump = dict(type='DumpDetResults' if detection else 'DumpResults', out_file_path=path)
    evaluators = config.test_evaluator if isinstance(config.test_evaluator, list) else [config.test_evaluator]
    config.test_evaluator = [*evaluators, dump]


def use_own_types(config: Config) -> None:
    """Use this package's metrics, which do not round, and its CocoDataset, which fills in missing annotation fields."""
    for key in EVALUATORS:
        for evaluator in dicts_in(config.get(key) or {}):
            kind = str(evaluator.get('type')).rpartition('.')[2]
            if kind in OWN_METRICS and not isinstance(evaluator['type'], type):
                evaluator['type'] = OWN_METRICS[kind]
    for loader in LOADERS:
        for data_set in dicts_in(config.get(loader) or {}):
            if data_set.get('type') == 'CocoDataset':
                data_set['type'] = 'swin_backbone.CocoDataset'
