"""Try a config for real and small: one training step and one evaluated picture, on a few shrunken pictures."""

import math
import multiprocessing
import os
import resource
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from swin_backbone.datasets.generated import SPEC_FILE
from swin_backbone.datasets.shapes_spec import CLASSES, SEGMENTATION_CLASSES
from swin_backbone.engine.classes import needs_masks, set_classes
from swin_backbone.engine.config import (
    LOADERS,
    check_data,
    dicts_in,
    load_config,
    move_data_root,
    set_weights,
)

HEADING = f'{"config":<26}{"data":<12}{"loss":>10}{"seconds":>10}{"peak MiB":>10}  outcome'
PICTURES = 2
PROPOSALS = 32
REGIONS = 32
STUFF_MAPS = 'annotations/training/'
"""Semantic maps that stand in for stuff maps, in the layout that the embedded data set has."""
SIGNS = dict(detection='annotations/instances_val2017.json', segmentation='annotations/validation')
"""What a data folder holds if configs of a folder can be trained on it."""
PRELOADED = ['mmdet.models', 'mmdet.datasets', 'mmdet.evaluation', 'mmseg.models', 'mmseg.datasets', __name__]


@dataclass(frozen=True)
class Trial:
    """What came of trying a config.

    Attributes:
        config: its name.
        data: the name of the folder of pictures; empty for the config's own.
        loss: the sum of the losses of the training step.
        unreached: parameters that are trained and got no gradient, or one that is not finite.
        metrics: the figures of the one evaluated picture.
        seconds: processor time of all of it, building included, imports of packages not.
        peak: memory of the process at its largest, in bytes.
        remarks: what was left out.
        error: why it failed; empty if it did not.
    """

    config: str
    data: str = ''
    loss: float = float('nan')
    unreached: tuple[str, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    peak: int = 0
    remarks: tuple[str, ...] = ()
    error: str = ''

    @property
    def failure(self) -> str:
        """What went wrong; empty if nothing did."""
        if self.error:
            return self.error
        if not math.isfinite(self.loss):
            return 'the loss is not finite'
        if self.unreached:
            return f'{len(self.unreached)} parameters without a finite gradient, such as {self.unreached[0]}'
        return '' if self.metrics else 'no figures from the evaluation'

    @property
    def outcome(self) -> str:
        """In words: passed, and what was left out, or why not."""
        return f'FAILED: {self.failure}' if self.failure else ', '.join(('passed', *self.remarks))

    def row(self) -> str:
        """One line of the table under :data:`HEADING`."""
        numbers = f'{self.loss:>10.3f}{self.seconds:>10.1f}{self.peak / 2**20:>10.0f}'
        return f'{self.config:<26}{self.data:<12}{numbers}  {self.outcome}'


Task = tuple[str, str | None, int]
"""A config, the folder of its data (None: as it says itself) and the height of the pictures."""


def plan(paths: Sequence[str], data_roots: Sequence[str], side: int) -> list[Task]:
    """Every config on every folder whose data suit it; on the first, which then says what is missing, if none does."""
    tasks: list[Task] = []
    for root in data_roots:
        tasks += [(path, root, side) for path in paths if suits(path, root)]
    tried = {path for path, _, _ in tasks}
    return tasks + [(path, data_roots[0] if data_roots else None, side) for path in paths if path not in tried]


def suits(path: str, root: str) -> bool:
    """Whether a folder has the layout for a config; the config's own folder tells its task."""
    sign = SIGNS.get(Path(path).absolute().parent.name)
    return sign is None or Path(root, sign).exists()


def try_each(tasks: Sequence[Task]) -> Iterator[Trial]:
    """Try configs one after the other, each in a process of its own, so that memory is each one's own."""
    server = 'forkserver' in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context('forkserver' if server else 'spawn')
    context.set_forkserver_preload(PRELOADED)
    with context.Pool(1, maxtasksperchild=1) as pool:
        yield from pool.imap(try_one, tasks, chunksize=1)


def try_one(task: Task) -> Trial:
    """Try one config; an error becomes part of the result."""
    path, data_root, side = task
    started = time.process_time()
    warnings.simplefilter('ignore')
    try:
        with open(os.devnull, 'w') as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            config = load_config(path, None)
            remarks = prepare(config, data_root, side)
            loss, unreached, metrics = run(config)
        outcome: dict[str, Any] = dict(loss=loss, unreached=unreached, metrics=metrics, remarks=remarks)
    except Exception as error:
        outcome = dict(error=f'{type(error).__name__}: {error}')
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)
    data = Path(data_root).name if data_root else ''
    return Trial(Path(path).stem, data, seconds=time.process_time() - started, peak=peak, **outcome)


def prepare(config: Config, data_root: str | None, side: int) -> tuple[str, ...]:
    """Point a config at the data and make it small; says what it had to leave out."""
    remarks = []
    set_weights(config, 'none')
    if data_root:
        move_data_root(config, data_root)
        if (Path(data_root) / SPEC_FILE).is_file():
            set_classes(config, SEGMENTATION_CLASSES if 'decode_head' in config.model else CLASSES)
    if find_spec('instaboostfast') is None and leave_out_instaboost(config):
        remarks.append('without InstaBoost')
    if borrow_stuff_maps(config):
        remarks.append('other stuff maps')
    check_data(config, ('train_dataloader', 'val_dataloader'))
    shrink(config, side)
    return tuple(remarks)


def leave_out_instaboost(config: Config) -> bool:
    """Drop InstaBoost, whose package may be missing; whether there was any."""
    found = False
    for node in dicts_in(config.train_dataloader):
        if 'pipeline' in node:
            kept = [step for step in node['pipeline'] if not needs_masks(step)]
            found, node['pipeline'] = found or len(kept) < len(node['pipeline']), kept
    return found


def borrow_stuff_maps(config: Config) -> bool:
    """Take the semantic maps of the data folder where a detector's stuff maps are missing; whether that was so."""
    borrowed = False
    for node in dicts_in(config.train_dataloader):
        prefixes = node.get('data_prefix') or {}
        if 'seg' in prefixes and not Path(node['data_root'], prefixes['seg']).is_dir():
            prefixes['seg'], borrowed = STUFF_MAPS, True
    return borrowed


def shrink(config: Config, side: int) -> None:
    """Make pictures about ``side`` pixels high, use few regions, and keep every prediction, however unsure."""
    for loader in LOADERS:
        for step in dicts_in(config.get(loader) or {}):
            kind = step.get('type', '')
            if kind in ('Resize', 'RandomResize') and 'scale' in step:
                several = isinstance(step['scale'], list)
                step['scale'] = [(2 * side, side)] * 2 if several else (2 * side, side)
            elif kind == 'RandomChoiceResize':
                step['scales'] = [(2 * side, side)]
            elif kind == 'RandomCrop':
                step['crop_size'] = (side // 2, side) if step.get('crop_type') == 'absolute_range' else (side, side)
    if 'size' in (config.model.get('data_preprocessor') or {}):
        config.model.data_preprocessor.size = (side, side)
    for options in dicts_in(config.model.get('train_cfg') or {}):
        if options.get('type') == 'RandomSampler':
            options['num'] = REGIONS
    for options in dicts_in(config.model.get('test_cfg') or {}):
        if 'score_thr' in options:
            options['score_thr'] = 0.0
        for limit in ('nms_pre', 'max_per_img'):
            if limit in options:
                options[limit] = PROPOSALS


def run(config: Config) -> tuple[float, tuple[str, ...], dict[str, float]]:
    """One training step and one evaluated picture.

    Returns:
        The loss, the trained parameters without a finite gradient, and the figures of the picture.
    """
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import DATASETS, MODELS, DefaultScope
    from mmengine.runner import set_random_seed

    set_random_seed(0)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        model = revert_sync_batchnorm(MODELS.build(config.model))
        model.init_weights()
        train_set, val_set = (DATASETS.build(config[loader].dataset) for loader in LOADERS[:2])
        loss, unreached = step(model, [train_set[index] for index in range(PICTURES)])
        return loss, unreached, evaluate(config, model, val_set)


def step(model: Any, samples: list[Any]) -> tuple[float, tuple[str, ...]]:
    """Loss and gradients of one batch."""
    from mmengine.dataset import pseudo_collate

    model.train()
    losses = model(**model.data_preprocessor(pseudo_collate(samples), True), mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    trained = {name: value.grad for name, value in model.named_parameters() if value.requires_grad}
    unreached = tuple(name for name, grad in trained.items() if grad is None or not grad.isfinite().all())
    return total.item(), unreached


def evaluate(config: Config, model: Any, val_set: Any) -> dict[str, float]:
    """Figures of the first validation picture."""
    from mmengine.dataset import pseudo_collate
    from mmengine.evaluator import Evaluator

    evaluator = Evaluator(config.val_evaluator)
    evaluator.dataset_meta = val_set.metainfo
    batch = pseudo_collate([val_set[0]])
    model.eval()
    with torch.no_grad():
        evaluator.process(model.val_step(batch), batch)
    return evaluator.evaluate(1)
