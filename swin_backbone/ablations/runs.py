"""The runs of an ablation: a base config, changed once per row and seed, each with its own folder."""

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
"""Keys of a config that do not change the result of a run."""

NAMED_DIFFERENCES = 3
FROM_SCRATCH = 'from scratch'
WITHOUT_WINDOWS = ('sliding-naive', 'sliding-kernel', 'performer')
"""Methods of attention for which a rule about windows on small maps means nothing."""

PRETRAINING = 'classification'
PRETRAINING_SEED = 0
"""Each row is pre-trained once, whatever the seeds of the runs that start from its weights."""

TABLES = {**paper_v1.TABLES, **paper_v2.TABLES}


class State(Enum):
    """The progress of a run; the values are shown in tables."""

    NEW = 'not run'
    OTHER = 'made with other options'
    INTERRUPTED = 'interrupted'
    UNEVALUATED = 'trained, not evaluated'
    FINISHED = 'finished'
    RUNNING = 'running'
    FAILED = 'failed'


@dataclass(frozen=True)
class Progress:
    """The state of a run and what it wrote.

    Attributes:
        state: how far it is.
        summary: its ``summary.json``, if it is finished.
        remark: the reason for the state, for messages.
        checkpoint: the newest one, if there is any.
    """

    state: State
    summary: dict[str, Any] | None = None
    remark: str = ''
    checkpoint: Path | None = None


@dataclass(frozen=True)
class Run:
    """One training with its evaluation.

    Attributes:
        row: what it changes.
        seed: of all random numbers.
        folder: its work dir.
        config: complete, without a work dir.
        source: folder of the run whose network is tested; None if one is trained.
    """

    row: Row
    seed: int
    folder: Path
    config: Config
    source: Path | None = None

    @property
    def name(self) -> str:
        """The name in messages."""
        return f'{self.row.run} seed {self.seed}'

    @property
    def config_file(self) -> Path:
        """The dumped config."""
        return self.folder / 'ablation.py'

    @property
    def record_file(self) -> Path:
        """The options behind the contents of the folder."""
        return self.folder / 'ablation.json'

    @property
    def log_file(self) -> Path:
        """The output of the run's processes."""
        return self.folder / 'console.log'

    def record(self) -> dict[str, Any]:
        """The values that decide the result."""
        items = self.config.to_dict().items()
        values = {key: value for key, value in items if key not in NOT_COMPARED and not key.startswith('_')}
        return dict(row=self.row.run, seed=self.seed, config=json.loads(json.dumps(values, default=str)))

    def differences(self) -> list[str] | None:
        """How the record in the folder differs from this run; None if there is no record."""
        if not self.record_file.is_file():
            return None
        return differences(json.loads(self.record_file.read_text()), self.record())

    def write_config(self) -> None:
        """Write config and record into the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config.dump(self.config_file)
        write_json(self.record_file, self.record())

    def progress(self, metrics: Collection[str]) -> Progress:
        """Inspect the folder; a finished run has all ``metrics`` in its summary."""
        summary_file = self.folder / 'summary.json'
        changed = self.differences()
        if changed:
            more = f'; and {len(changed) - NAMED_DIFFERENCES} more' if len(changed) > NAMED_DIFFERENCES else ''
            return Progress(State.OTHER, remark='; '.join(changed[:NAMED_DIFFERENCES]) + more)
        if changed is None:
            unknown = summary_file.is_file() or any(self.folder.glob('*.pth'))
            return Progress(State.OTHER, remark='its options are not recorded') if unknown else Progress(State.NEW)
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
        # A training that is resumed at its end would evaluate nothing.
        state = State.UNEVALUATED if checkpoint.name == final_checkpoint(self.config) else State.INTERRUPTED
        return Progress(state, remark=remark, checkpoint=checkpoint)

    @property
    def tested(self) -> Path | None:
        """The checkpoint of the run whose network is tested, if that run is finished."""
        finished = self.source is not None and (self.source / 'summary.json').is_file()
        return last_checkpoint(self.source) if self.source is not None and finished else None

    def transfer(self, checkpoint: Path) -> Path:
        """Write a checkpoint of another run with position biases for the windows of this one; return its file."""
        options = self.config.model.backbone.to_dict()
        backbone = SwinTransformer(**{key: value for key, value in options.items() if key not in ('type', 'init_cfg')})
        load_pretrained(backbone, checkpoint)
        state = dict(read_checkpoint(checkpoint)['state_dict'])
        state.update({f'backbone.{name}': value for name, value in backbone.state_dict().items()})
        file = self.folder / 'transferred.pth'
        torch.save(dict(state_dict=state), file)
        return file

    def command(self, found: Progress, launch: Launch) -> list[str]:
        """The command line that starts, resumes or only evaluates the run; its config is in its folder."""
        torchrun = ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={launch.processes}']
        starts = {
            'none': [sys.executable],
            'pytorch': [sys.executable, *torchrun],
            'slurm': ['srun', f'--ntasks={launch.processes}', sys.executable],
            'mpi': ['mpirun', '-n', str(launch.processes), sys.executable],
        }
        if self.tested is not None:
            task = ['test', str(self.config_file), str(self.transfer(self.tested))]
        elif found.state is State.UNEVALUATED:
            task = ['test', str(self.config_file), str(found.checkpoint)]
        else:
            # From the newest checkpoint in the work dir, or from the beginning.
            task = ['train', str(self.config_file), '--resume']
        options = ['--work-dir', str(self.folder), '--launcher', launch.launcher]
        return [*starts[launch.launcher], '-m', 'swin_backbone.cli', *task, *options]


@dataclass(frozen=True)
class Plan:
    """The runs of one sweep.

    Attributes:
        table: the table of scores.
        task: what is trained.
        task_name: a key of :data:`TASKS`.
        base: the config that the rows change.
        work_dir: where runs and tables are written.
        seeds: each row is trained once with each.
        weights: of the backbone: None for those of the config, 'none', or a source in which ``{row}`` is replaced by
            the name of the row's run.
        demo: whether it uses the generated data.
        recipes: the configs of rows with one of their own, by its name.
        pretraining: the runs of the same rows that make their weights, if they are pre-trained here.
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
        """Labels of the metrics of the table by name, those of the pre-training first."""
        return {**(self.pretraining.task.metrics if self.pretraining else {}), **self.task.metrics}

    @property
    def report_dir(self) -> Path:
        """Where the tables and the plot are written."""
        return self.work_dir / f'{self.table.name}-{self.task_name}'

    def runs(self, rows: Sequence[str] | None = None) -> list[Run]:
        """The runs of some rows, seed after seed, so that a table with every row is there early."""
        return [self.run(row, seed) for seed in self.seeds for row in self.table.choose(rows)]

    def run(self, row: Row, seed: int) -> Run:
        """The run of one row with one seed; tables that share a row share its runs."""
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
    """Read the base config, or those of the rows, and apply the options that hold for every row.

    With ``pretrain``, every row starts from weights of a classifier of its own, which is trained first: on the images
    in that folder, or on those of its config for an empty string.

    Raises:
        InputError: the config cannot be used, or data are missing.
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
            raise InputError('--pretrain makes the weights of each row: leave --weights out.')
        if chosen.task is not None or task == PRETRAINING or table not in paper_v1.TABLES:
            raise InputError('--pretrain is for --task detection and segmentation of table4 and table6: leave it out.')
    recipes = {row.config: read(row.config) for row in chosen.rows if row.config}
    if recipes:
        base = recipes[recipe.config]
    else:
        base = read(config_file or (recipe.demo if demo else chosen.configs.get(task, recipe.config)))
        if base.model.get('backbone', {}).get('type') != BACKBONE:
            raise InputError(f'the backbone of {base.filename} is not {BACKBONE}: give a --config that has it.')
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
    """The name of the checkpoint at the end of a training."""
    limits = config.train_cfg
    return f'epoch_{limits.max_epochs}.pth' if 'max_epochs' in limits else f'iter_{limits.max_iters}.pth'


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint of a run, if there is any."""
    pointer = folder / 'last_checkpoint'
    # By its name alone: the folder may have been moved.
    checkpoint = folder / Path(pointer.read_text().strip()).name if pointer.is_file() else None
    return checkpoint if checkpoint is not None and checkpoint.is_file() else None


def differences(old: Any, new: Any, path: str = '') -> list[str]:
    """List where two nested values differ, as ``key is old, not new``."""
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

    The toolkits' own backbones are built, and load their weights, when the run starts.

    Raises:
        InputError: the backbone cannot be built, or the weights do not fit it.
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
        raise InputError(f'row {run.row.run}: {error} Leave the row out with --rows, or choose --weights.') from error
    return '; '.join([str(report), *report.warnings])
