"""The runs of an ablation: a base config with the changes of each row and seed, and a folder for each run."""

import copy
import json
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from swin_backbone import SwinTransformer, load_pretrained
from swin_backbone.ablations import paper_v1, paper_v2
from swin_backbone.ablations.paper_v1 import TASKS, Row, Table, Task
from swin_backbone.ablations.process_pool import Launch
from swin_backbone.checkpoint import read_checkpoint
from swin_backbone.engine import config as engine_config
from swin_backbone.errors import InputError
from swin_backbone.files import write_json

BACKBONE = 'swin_backbone.SwinTransformer'
NOT_COMPARED = frozenset(
    {'work_dir', 'launcher', 'resume', 'default_hooks', 'log_level', 'log_processor', 'vis_backends', 'visualizer'}
)
"""Config keys that do not affect the result of a run."""

NAMED_DIFFERENCES = 3
FROM_SCRATCH = 'from scratch'
WITHOUT_WINDOWS = ('sliding-naive', 'sliding-kernel', 'performer')
"""Attention methods without windows, to which the option ``small_maps`` does not apply."""

PRETRAINING = 'classification'
PRETRAINING_SEED = 0
"""Each row is pre-trained once with this seed, for all seeds of the runs that start from its weights."""

TABLES = {**paper_v1.TABLES, **paper_v2.TABLES}


class State(Enum):
    """The state of a run; the values are shown in tables."""

    NEW = 'not run'
    OTHER = 'made with other options'
    INTERRUPTED = 'interrupted'
    UNEVALUATED = 'trained, not evaluated'
    FINISHED = 'finished'
    RUNNING = 'running'
    FAILED = 'failed'


@dataclass(frozen=True)
class Progress:
    """The progress of a run.

    Attributes:
        state: the state of the run.
        summary: content of ``summary.json`` if the run is finished.
        remark: reason for the state, for messages.
        checkpoint: the newest checkpoint, if there is one.
    """

    state: State
    summary: dict[str, Any] | None = None
    remark: str = ''
    checkpoint: Path | None = None


@dataclass(frozen=True)
class Run:
    """One training run with its evaluation.

    Attributes:
        row: the row of the table.
        seed: random seed.
        folder: work dir.
        config: the complete config, without a work dir.
        source: folder of the run whose network is tested; None if this run trains one.
    """

    row: Row
    seed: int
    folder: Path
    config: Config
    source: Path | None = None

    @property
    def name(self) -> str:
        """Name in messages."""
        return f'{self.row.run} seed {self.seed}'

    @property
    def config_file(self) -> Path:
        """File of the dumped config."""
        return self.folder / 'ablation.py'

    @property
    def record_file(self) -> Path:
        """File with the options that the run was made with."""
        return self.folder / 'ablation.json'

    @property
    def log_file(self) -> Path:
        """File with the output of the run's processes."""
        return self.folder / 'console.log'

    def record(self) -> dict[str, Any]:
        """Return the options that affect the result."""
        items = self.config.to_dict().items()
        values = {key: value for key, value in items if key not in NOT_COMPARED and not key.startswith('_')}
        return dict(row=self.row.run, seed=self.seed, config=json.loads(json.dumps(values, default=str)))

    def differences(self) -> list[str] | None:
        """List the differences between the record in the folder and this run; None if there is no record."""
        if not self.record_file.is_file():
            return None
        return differences(json.loads(self.record_file.read_text()), self.record())

    def write_config(self) -> None:
        """Write the config and the record to the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config.dump(self.config_file)
        write_json(self.record_file, self.record())

    def progress(self, metrics: Collection[str]) -> Progress:
        """Determine the progress from the folder; a finished run has all ``metrics`` in its summary."""
        summary_file = self.folder / 'summary.json'
        changed = self.differences()
        if changed:
            more = f'; and {len(changed) - NAMED_DIFFERENCES} more' if len(changed) > NAMED_DIFFERENCES else ''
            return Progress(State.OTHER, remark='; '.join(changed[:NAMED_DIFFERENCES]) + more)
        if changed is None:
            unknown = summary_file.is_file() or any(self.folder.glob('*.pth'))
            return Progress(State.OTHER, remark='its options were not recorded') if unknown else Progress(State.NEW)
        remark = ''
        if summary_file.is_file():
            summary = json.loads(summary_file.read_text())
            missing = [name for name in metrics if name not in summary]
            if not missing:
                return Progress(State.FINISHED, summary)
            remark = f'its summary has no {", ".join(missing)}'
        checkpoint = last_checkpoint(self.folder)
        if checkpoint is None:
            return Progress(State.NEW, remark=remark)
        # A run that is resumed after the last iteration would not be evaluated.
        state = State.UNEVALUATED if checkpoint.name == final_checkpoint(self.config) else State.INTERRUPTED
        return Progress(state, remark=remark, checkpoint=checkpoint)

    @property
    def tested_checkpoint(self) -> Path | None:
        """Checkpoint of the run whose network is tested, if that run is finished."""
        finished = self.source is not None and (self.source / 'summary.json').is_file()
        return last_checkpoint(self.source) if self.source is not None and finished else None

    def transfer(self, checkpoint: Path) -> Path:
        """Resize the position biases in a checkpoint of another run to the windows of this run; return the new file."""
        options = self.config.model.backbone.to_dict()
        backbone = SwinTransformer(**{key: value for key, value in options.items() if key not in ('type', 'init_cfg')})
        load_pretrained(backbone, checkpoint)
        state = dict(read_checkpoint(checkpoint)['state_dict'])
        state.update({f'backbone.{name}': value for name, value in backbone.state_dict().items()})
        file = self.folder / 'transferred.pth'
        torch.save(dict(state_dict=state), file)
        return file

    def command(self, found: Progress, launch: Launch) -> list[str]:
        """Return the command that starts, resumes or only evaluates the run; its config must have been written."""
        torchrun = ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={launch.processes}']
        starts = {
            'none': [sys.executable],
            'pytorch': [sys.executable, *torchrun],
            'slurm': ['srun', f'--ntasks={launch.processes}', sys.executable],
            'mpi': ['mpirun', '-n', str(launch.processes), sys.executable],
        }
        if self.tested_checkpoint is not None:
            task = ['test', str(self.config_file), str(self.transfer(self.tested_checkpoint))]
        elif found.state is State.UNEVALUATED:
            task = ['test', str(self.config_file), str(found.checkpoint)]
        else:
            # --resume starts from the beginning if there is no checkpoint in the work dir.
            task = ['train', str(self.config_file), '--resume']
        options = ['--work-dir', str(self.folder), '--launcher', launch.launcher]
        return [*starts[launch.launcher], '-m', 'swin_backbone.cli', *task, *options]


@dataclass(frozen=True)
class Plan:
    """The runs of one sweep.

    Attributes:
        table: the table of scores.
        task: the training task.
        task_name: a key of :data:`TASKS`.
        base: the config that the rows change.
        work_dir: folder for runs and tables.
        seeds: seeds for each row.
        weights: weights of the backbone: None for those of the config, 'none', or a source in which ``{row}`` is
            replaced by the name of the row's run.
        demo: whether the generated data are used.
        recipes: configs of rows that have their own, by name.
        pretraining: the plan that pre-trains the backbone of each row, if any.
    """

    table: Table
    task: Task
    task_name: str
    base: Config
    work_dir: Path
    seeds: tuple[int, ...]
    weights: str | None = None
    demo: bool = False
    recipes: Mapping[str, Config] = field(default_factory=dict)
    pretraining: 'Plan | None' = None

    @property
    def metrics(self) -> dict[str, str]:
        """Labels of the table's metrics by name; metrics of the pre-training come first."""
        return {**(self.pretraining.task.metrics if self.pretraining else {}), **self.task.metrics}

    @property
    def report_dir(self) -> Path:
        """Folder for the tables and the plot."""
        return self.work_dir / f'{self.table.name}-{self.task_name}'

    def runs(self, rows: Sequence[str] | None = None) -> list[Run]:
        """Return the runs of some rows ordered by seed, so that a table with all rows is available early."""
        return [self.run(row, seed) for seed in self.seeds for row in self.table.choose(rows)]

    def run(self, row: Row, seed: int) -> Run:
        """Return the run of one row with one seed; tables with the same row share its runs."""
        folder = self.work_dir / self.task_name
        config = copy.deepcopy(self.recipes.get(row.config, self.base))
        config.model.backbone.update(row.options)
        if row.changes.get('attention_method') in WITHOUT_WINDOWS:
            config.model.backbone.pop('small_maps', None)
        engine_config.set_weights(config, self.weights.replace('{row}', row.run) if self.weights else None)
        config.randomness = {**(config.get('randomness') or {}), 'seed': seed}
        source = folder / row.source / f'seed{seed}' if row.source else None
        return Run(row, seed, folder / row.run / f'seed{seed}', config, source)


def make_plan(
    table: str,
    task: str,
    config_file: str | None,
    work_dir: str | None,
    seeds: Sequence[int],
    weights: str | None = None,
    data_root: str | None = None,
    max_iters: int | None = None,
    overrides: Sequence[str] | None = None,
    scale_rate: bool = False,
    demo: bool = False,
    check_data: bool = True,
    pretrain: str | None = None,
) -> Plan:
    """Read the base config, or those of the rows, and apply the options to all of them.

    With ``pretrain``, a classifier is trained for every row first, and the row starts from its weights. ``pretrain`` is
    a folder of images, or an empty string for the images in the classifier's config.

    Raises:
        InputError: if a config cannot be used, data are missing, or options exclude each other.
    """
    chosen = TABLES[table]
    recipe = chosen.task or TASKS[task]

    def read(name: str) -> Config:
        config = engine_config.load_config(name, overrides)
        if data_root:
            engine_config.move_data_root(config, data_root)
        if check_data:
            engine_config.check_data(config, ('train_dataloader', 'val_dataloader'))
        if max_iters is not None:
            engine_config.limit_iterations(config, max_iters)
        if scale_rate:
            engine_config.set_learning_rate_scaling(config)
        config.pop('work_dir', None)
        return config

    if pretrain is not None:
        if weights is not None:
            raise InputError('--pretrain trains the weights of each row: remove --weights.')
        if chosen.task is not None or task == PRETRAINING or table not in paper_v1.TABLES:
            raise InputError('--pretrain is for --task detection and segmentation of table4 and table6: remove it.')
    recipes = {row.config: read(row.config) for row in chosen.rows if row.config}
    if recipes:
        base = recipes[recipe.config]
    else:
        base = read(config_file or (recipe.demo if demo else chosen.configs.get(task, recipe.config)))
        if base.model.get('backbone', {}).get('type') != BACKBONE:
            raise InputError(f'the backbone of {base.filename} is not {BACKBONE}: use a --config with it.')
    folder = Path(work_dir or ('work_dirs/ablate-demo' if demo else 'work_dirs/ablate'))
    plan = Plan(chosen, recipe, task, base, folder, tuple(seeds), weights, demo, recipes)
    if pretrain is None:
        return plan
    seed, images = [PRETRAINING_SEED], pretrain or None
    first = make_plan(
        table, PRETRAINING, None, str(folder), seed, None, images, max_iters, demo=demo, check_data=check_data
    )
    file = folder / PRETRAINING / '{row}' / f'seed{PRETRAINING_SEED}' / final_checkpoint(first.base)
    return replace(plan, weights=str(file), pretraining=first)


def final_checkpoint(config: Config) -> str:
    """Return the file name of the last checkpoint of a training run."""
    limits = config.train_cfg
    return f'epoch_{limits.max_epochs}.pth' if 'max_epochs' in limits else f'iter_{limits.max_iters}.pth'


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint of a run; None if there is none."""
    pointer = folder / 'last_checkpoint'
    # Only use the file name, since the folder may have been moved.
    checkpoint = folder / Path(pointer.read_text().strip()).name if pointer.is_file() else None
    return checkpoint if checkpoint is not None and checkpoint.is_file() else None


def differences(old: Any, new: Any, path: str = '') -> list[str]:
    """List the differences of two nested values as ``key is old, not new``."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = dict.fromkeys([*old, *new])
        return [line for key in keys for line in differences(old.get(key), new.get(key), f'{path}.{key}'.lstrip('.'))]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return [line for i, (a, b) in pairs for line in differences(a, b, f'{path}[{i}]')]
    texts = [text if len(text) <= 60 else text[:57] + '...' for text in map(json.dumps, (old, new))]
    return [] if old == new else [f'{path.removeprefix("config.")} is {texts[0]}, not {texts[1]}']


def starting_weights(run: Run) -> str:
    """Build the backbone of a run and load its weights; return a description of them.

    Backbones of the toolkits are not built here; they load their weights when the run starts.

    Raises:
        InputError: if the backbone cannot be built, or the weights do not fit it.
    """
    options = {key: value for key, value in run.config.model.backbone.to_dict().items() if key != 'type'}
    init = options.pop('init_cfg', None)
    if run.config.model.backbone.type != BACKBONE:
        return f'loaded by the toolkit from {init["checkpoint"]}' if init else FROM_SCRATCH
    try:
        model = SwinTransformer(**options)
        if not init:
            return FROM_SCRATCH
        if init.get('type') != 'Pretrained':
            return f'initialised by {init}'
        report = load_pretrained(model, init['checkpoint'])
    except InputError as error:
        raise InputError(f'row {run.row.run}: {error} Exclude the row with --rows, or set --weights.') from error
    return '; '.join([str(report), *report.warnings])
