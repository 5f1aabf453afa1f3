"""Pre-training of rows as classifiers, and submission of runs to Slurm."""

import json
import shlex
import sys
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

import pytest

pytest.importorskip('mmseg', reason='MMSegmentation is not installed')
pytest.importorskip('mmpretrain', reason='MMPretrain is not installed')

from swin_backbone.ablations.demo_data import CLASSES_ROOT, COLOURS, GROUND, OrdersSpec, make_classes
from swin_backbone.ablations.process_pool import Launch
from swin_backbone.ablations.runs import PRETRAINING, Plan, Run, State, make_plan
from swin_backbone.ablations.slurm import RunJob, make_executor, submit
from swin_backbone.ablations.sweep import Sweep
from swin_backbone.datasets.generated import Summary
from swin_backbone.errors import InputError

ROWS = ['no-shift', 'default']


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    options = dict(max_iters=4, demo=True, check_data=False, pretrain='')
    return make_plan('table4', 'segmentation', None, str(tmp_path), [0, 1], **options)


def finish(run: Run, **scores: float) -> None:
    run.write_config()
    (run.folder / 'iter_4.pth').write_bytes(b'')
    (run.folder / 'last_checkpoint').write_text('iter_4.pth')
    (run.folder / 'summary.json').write_text(json.dumps(scores))


def test_every_row_starts_from_its_own_pretrained_weights(plan: Plan, tmp_path: Path) -> None:
    assert plan.pretraining is not None and plan.pretraining.task.metrics == {'top1': 'top-1'}
    for run in plan.runs(ROWS):
        weights = tmp_path / PRETRAINING / run.row.run / 'seed0' / 'iter_4.pth'
        assert run.config.model.backbone.init_cfg == dict(type='Pretrained', checkpoint=str(weights))
    firsts = plan.pretraining.runs(ROWS)
    assert [str(run.folder / 'iter_4.pth') for run in firsts] == [
        run.config.model.backbone.init_cfg.checkpoint for run in plan.runs(ROWS)[:2]
    ]
    assert [run.config.model.backbone.shift for run in firsts] == [False, True]
    assert firsts[0].config.model.backbone.get('init_cfg') is None


def test_runs_have_no_command_until_their_pretraining_is_finished(plan: Plan) -> None:
    assert plan.pretraining is not None
    sweep = Sweep(plan, ROWS, lambda line: None)
    sweep.check()
    assert sweep.weights == {}, 'no pre-training is finished'
    first, second = plan.pretraining.runs(ROWS)
    lines = [shlex.split(line) for line in sweep.commands(Launch())]
    assert [line[4] for line in lines] == [str(first.config_file), str(second.config_file)]
    finish(first, top1=0.75)
    lines = [shlex.split(line) for line in sweep.commands(Launch())]
    runs = [second, *(run for run in plan.runs(['no-shift']))]
    assert [line[4] for line in lines] == [str(run.config_file) for run in runs]


def test_the_table_has_scores_of_pretraining_and_task(plan: Plan) -> None:
    assert plan.pretraining is not None
    sweep = Sweep(plan, ROWS, lambda line: None)
    for run in plan.pretraining.runs(ROWS):
        finish(run, top1=0.75 if run.row.run == 'default' else 0.5)
    for run in plan.runs(ROWS):
        finish(run, mIoU=0.25)
    text = (sweep.write() / 'table.md').read_text()
    assert '| w/o shifting | 80.2 | -1.1 | 50.00 | -25.00 | 43.3 | -2.8 | 25.00 ± 0.00 |' in text
    assert '- pre-training: ' in text and 'ablation_demo.py, 4 iterations, once per row' in text


def test_runs_from_deleted_weights_are_deleted_with_redo(plan: Plan) -> None:
    run = plan.runs(['default'])[0]
    finish(run, mIoU=0.25)
    sweep = Sweep(plan, ['default'], lambda line: None)
    with pytest.raises(InputError, match='its weights no longer exist'):
        sweep.clear(redo=False)
    sweep.clear(redo=True)
    assert not run.folder.exists()


@pytest.mark.parametrize(
    ('table', 'task', 'options', 'message'),
    [
        ('table4', 'segmentation', dict(weights='none'), '--pretrain trains the weights of each row'),
        ('table4', 'classification', {}, '--pretrain is for --task detection and segmentation'),
        ('v2-position', 'detection', {}, '--pretrain is for --task detection and segmentation'),
    ],
)
def test_invalid_combinations_with_pretrain_are_an_error(
    table: str, task: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make_plan(table, task, None, None, [0], check_data=False, pretrain='', **options)


def test_methods_without_windows_do_not_set_small_maps(tmp_path: Path) -> None:
    plan = make_plan('table6', PRETRAINING, None, str(tmp_path), [0], check_data=False)
    rules = {run.row.run: run.config.model.backbone.get('small_maps') for run in plan.runs()}
    assert rules == {'sliding': None, 'performer': None, 'no-shift': 'shrink', 'default': 'shrink'}


def test_orders_spec_draws_images_and_names_files_by_class() -> None:
    spec = OrdersSpec()
    colours = {'red': 0, 'green': 1, 'blue': 2}
    assert list(COLOURS) == list(colours) and spec.classes == ('equal', 'forward', 'backward')
    image = spec.render(spec.random('train', 0), 0).image
    assert image.shape == (64, 64, 3) and abs(float(image.mean()) - GROUND[0]) < 40
    names = list(spec.file_names())
    assert names[:3] == [f'train/{name}/{number:012d}.png' for number, name in enumerate(spec.classes, start=1)]


def test_make_classes_writes_the_pretraining_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def write(root: Path, spec: OrdersSpec) -> Summary:
        made.append(root)
        return Summary(root, {}, written=True)

    monkeypatch.setattr('swin_backbone.ablations.demo_data.write_data_set', write)
    assert make_classes() == CLASSES_ROOT and make_classes(str(tmp_path)) == tmp_path
    assert made == [CLASSES_ROOT, tmp_path]


class Job:
    def __init__(self, number: int) -> None:
        self.job_id = str(number)


class Executor:
    """A stand-in for submitit's executor that records the submitted jobs."""

    def __init__(self) -> None:
        self.submitted: list[tuple[str, dict[str, str], RunJob]] = []
        self.parameters: dict[str, Any] = {}

    def update_parameters(self, **parameters: Any) -> None:
        self.parameters.update(parameters)

    def submit(self, job: RunJob) -> Job:
        self.submitted.append((self.parameters['name'], self.parameters['slurm_additional_parameters'], job))
        return Job(len(self.submitted))


def test_slurm_jobs_depend_on_their_pretraining(plan: Plan) -> None:
    executor = Executor()
    submit(Sweep(plan, ROWS, lambda line: None), executor, Launch())
    assert [(name, parameters.get('dependency')) for name, parameters, _ in executor.submitted] == [
        ('no-shift-0', None),
        ('default-0', None),
        ('no-shift-0', 'afterok:1'),
        ('default-0', 'afterok:2'),
        ('no-shift-1', 'afterok:1'),
        ('default-1', 'afterok:2'),
    ]
    run = plan.runs(ROWS)[0]
    assert run.config_file.is_file() and run.progress(('mIoU',)).state is State.NEW
    assert executor.submitted[2][2].command[1:5] == ['-m', 'swin_backbone.cli', 'train', str(run.config_file)]


def test_a_job_runs_its_command_through_submitit(tmp_path: Path) -> None:
    pytest.importorskip('submitit', reason='submitit is not installed')
    executor = make_executor(tmp_path / 'jobs', dict(cluster='debug', timeout_min=5))
    log = tmp_path / 'run' / 'console.log'
    assert executor.submit(RunJob([sys.executable, '-c', 'print(1)'], log)).result() == 0 and log.read_text() == '1\n'
    with pytest.raises(CalledProcessError, match='exit status 3'):
        RunJob([sys.executable, '-c', 'exit(3)'], log)()


def test_missing_sbatch_and_unknown_options_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip('submitit', reason='submitit is not installed')
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(InputError, match='--slurm needs sbatch, which was not found'):
        make_executor(tmp_path, {})
    with pytest.raises(InputError, match='--slurm-options: '):
        make_executor(tmp_path, dict(cluster='local', nonsense=1))
