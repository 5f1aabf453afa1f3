"""The runs of an ablation: a base config, changed once per row and seed, each with a folder of its own."""

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from swin_backbone import SwinTransformer, load_pretrained
from swin_backbone.ablations.paper import TABLES, TASKS, Row, Table, Task
from swin_backbone.engine import config as change
from swin_backbone.errors import InputError
from swin_backbone.files import write_json

BACKBONE = 'swin_backbone.SwinTransformer'
NOT_COMPARED = frozenset(
    {'work_dir', 'launcher', 'resume', 'default_hooks', 'log_level', 'log_processor', 'vis_backends', 'visualizer'}
)
"""Where a run is made and what it tells, which does not change what comes out."""

NAMED_DIFFERENCES = 3
FROM_SCRATCH = 'from scratch'


@dataclass(frozen=True)
class Plan:
    """What one sweep is about.

    Attributes:
        table: the table of scores.
        task: what is trained.
        task_name: 'detection' or 'segmentation'.
        base: the config that the rows change.
        work_dir: where runs and tables are written.
        seeds: each row is trained once with each.
        weights: of the backbone: None as the config says, 'none', or a source in which ``{row}`` is replaced by the
            name of the row's run.
        demo: whether it runs on the embedded data.
    """

    table: Table
    task: Task
    task_name: str
    base: Config
    work_dir: Path
    seeds: tuple[int, ...]
    weights: str | None = None
    demo: bool = False

    @property
    def report_dir(self) -> Path:
        """Where the tables and the plot are written."""
        return self.work_dir / f'{self.table.name}-{self.task_name}'

    def runs(self, rows: Sequence[str] | None = None) -> list['Run']:
        """The runs of some rows, seed after seed, so that the first table with every row is there early."""
        return [self.run(row, seed) for seed in self.seeds for row in self.table.choose(rows)]

    def run(self, row: Row, seed: int) -> 'Run':
        """The run of one row with one seed; tables that share a row share its runs."""
        folder = self.work_dir / self.task_name / row.run / f'seed{seed}'
        return Run(row, seed, folder, row_config(self.base, row, seed, self.weights))


@dataclass(frozen=True)
class Run:
    """One training with its evaluation.

    Attributes:
        row: what it changes.
        seed: of everything random.
        folder: where it writes.
        config: complete, without a work dir.
    """

    row: Row
    seed: int
    folder: Path
    config: Config

    @property
    def name(self) -> str:
        """For messages."""
        return f'{self.row.run} seed {self.seed}'

    @property
    def config_file(self) -> Path:
        """The dumped config."""
        return self.folder / 'ablation.py'

    @property
    def record_file(self) -> Path:
        """What the folder's contents were made with."""
        return self.folder / 'ablation.json'

    def record(self) -> dict[str, Any]:
        """The values that decide what comes out."""
        items = self.config.to_dict().items()
        values = {key: value for key, value in items if key not in NOT_COMPARED and not key.startswith('_')}
        return dict(row=self.row.run, seed=self.seed, config=json.loads(json.dumps(values, default=str)))

    def differences(self) -> list[str] | None:
        """How the record in the folder differs from what is asked for; None if there is none."""
        if not self.record_file.is_file():
            return None
        return differences(json.loads(self.record_file.read_text()), self.record())

    def write_config(self) -> None:
        """Put config and record into the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config.dump(self.config_file)
        write_json(self.record_file, self.record())


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
) -> Plan:
    """Read the base config and change what holds for every row.

    Raises:
        InputError: the config cannot be used, or data are missing.
    """
    recipe = TASKS[task]
    config = change.load_config(config_file or (recipe.demo if demo else recipe.config), overrides)
    if config.model.get('backbone', {}).get('type') != BACKBONE:
        raise InputError(f'the backbone of {config.filename} is not {BACKBONE}: give a --config that has it.')
    if data_root:
        change.move_data_root(config, data_root)
    if check_data:
        change.check_data(config, ('train_dataloader', 'val_dataloader'))
    if max_iters is not None:
        change.limit_iterations(config, max_iters)
    if scale_rate:
        change.set_learning_rate_scaling(config)
    config.pop('work_dir', None)
    folder = Path(work_dir or ('work_dirs/ablate-demo' if demo else 'work_dirs/ablate'))
    return Plan(TABLES[table], recipe, task, config, folder, tuple(seeds), weights, demo)


def row_config(base: Config, row: Row, seed: int, weights: str | None) -> Config:
    """The config of one run."""
    config = copy.deepcopy(base)
    config.model.backbone.update(row.options)
    change.set_weights(config, weights.replace('{row}', row.run) if weights else None)
    config.randomness = {**(config.get('randomness') or {}), 'seed': seed}
    return config


def differences(old: Any, new: Any, path: str = '') -> list[str]:
    """Where two nested values differ, as ``key: old instead of new``."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        return [line for key in keys for line in differences(old.get(key), new.get(key), f'{path}.{key}'.lstrip('.'))]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return [line for i, (a, b) in pairs for line in differences(a, b, f'{path}[{i}]')]
    return [] if old == new else [f'{path.removeprefix("config.")} is {brief(old)}, not {brief(new)}']


def brief(value: Any) -> str:
    """A value in a message."""
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + '...'


def few(lines: Sequence[str]) -> str:
    """Some lines in one sentence."""
    more = len(lines) - NAMED_DIFFERENCES
    return '; '.join(lines[:NAMED_DIFFERENCES]) + (f'; and {more} more' if more > 0 else '')


def starting_weights(run: Run) -> str:
    """What the backbone of a run starts from, found by building it and loading its weights.

    Raises:
        InputError: the backbone cannot be built, or the weights do not fit it.
    """
    options = {key: value for key, value in run.config.model.backbone.to_dict().items() if key != 'type'}
    init = options.pop('init_cfg', None)
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
