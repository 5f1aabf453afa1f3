"""Ablation runs: changes of the config, folders, progress, commands and sweeps."""

import copy
import functools
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip('mmseg', reason='MMSegmentation is not installed')
pytest.importorskip('mmdet', reason='MMDetection is not installed')

from mmengine.config import Config

from swin_backbone.ablations import demo_data as ablation_demo
from swin_backbone.ablations.paper_v1 import SWITCHES, TABLES
from swin_backbone.ablations.process_pool import Launch
from swin_backbone.ablations.runs import Plan, Run, State, differences, make_plan, starting_weights
from swin_backbone.ablations.sweep import Sweep, time_left, weights_facts
from swin_backbone.engine import config as engine_config
from swin_backbone.errors import InputError
from tests.conftest import REPOSITORY

CONFIGS = {
    'segmentation': str(REPOSITORY / 'configs/segmentation/upernet_swin_demo.py'),
    'detection': str(REPOSITORY / 'configs/detection/cascade_swin_demo.py'),
}
LAUNCH = Launch()
METRICS = ('mIoU',)

read = functools.cache(engine_config.load_config)


@pytest.fixture(autouse=True)
def read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cache configs, since reading one with its bases takes seconds."""

    def load(path: str, overrides: dict[str, Any] | None) -> Config:
        config = copy.deepcopy(read(path, None))
        config.merge_from_dict(overrides or {})
        return config

    monkeypatch.setattr(engine_config, 'load_config', load)


def plan_of(folder: Path, table: str = 'table4', task: str = 'segmentation', **options: Any) -> Plan:
    options = {'seeds': [0], 'max_iters': 4, 'check_data': False, **options}
    return make_plan(table, task, CONFIGS[task], str(folder), **options)


def quiet(line: str) -> None:
    """Ignore a line."""


def finish(run: Run, **metrics: float) -> None:
    run.write_config()
    (run.folder / 'summary.json').write_text(json.dumps({'iterations': 4, 'seconds': 1.0, **metrics}))


def leave_checkpoint(run: Run, name: str) -> None:
    run.write_config()
    (run.folder / name).write_bytes(b'')
    (run.folder / 'last_checkpoint').write_text(f'/somewhere/else/{name}')


@pytest.mark.parametrize(('task', 'name'), [('segmentation', 'table4'), ('detection', 'table6')])
def test_every_row_changes_only_its_switches(task: str, name: str, tmp_path: Path) -> None:
    plan = plan_of(tmp_path, name, task)
    plain = plan.base.model.to_dict()
    for run in plan.runs():
        model = run.config.model.to_dict()
        switches = {key: model['backbone'].pop(key) for key in SWITCHES}
        assert switches == {**SWITCHES, **run.row.changes}
        assert model == {**plain, 'backbone': model['backbone']} and model['backbone'] == plain['backbone']


def test_runs_are_ordered_by_seed(tmp_path: Path) -> None:
    runs = plan_of(tmp_path, seeds=[0, 5]).runs()
    rows = ['no-shift', 'default', 'no-pos', 'abs-pos', 'abs-rel-pos', 'rel-pos-no-app']
    assert [run.name for run in runs] == [f'{row} seed {seed}' for seed in (0, 5) for row in rows]
    assert runs[-1].folder == tmp_path / 'segmentation' / 'rel-pos-no-app' / 'seed5'
    assert runs[-1].config.randomness.seed == 5 and 'work_dir' not in runs[-1].config


def test_rows_of_table9_have_their_own_configs(tmp_path: Path) -> None:
    plan = make_plan('table9', 'detection', None, str(tmp_path), [0], check_data=False, max_iters=4)
    runs = plan.runs()
    assert [Path(run.config.filename).stem for run in runs] == [run.row.config for run in runs]
    assert [run.config.optim_wrapper.optimizer.type for run in runs] == ['SGD', 'AdamW'] * 3
    assert [run.config.model.backbone.depth for run in runs] == [50, 50, 101, 101, 101, 101]
    assert all(run.config.train_cfg.max_iters == 4 and 'shift' not in run.config.model.backbone for run in runs)
    assert starting_weights(runs[0]) == 'loaded by the toolkit from torchvision://resnet50'
    assert 'cascade_x101_32x4d_sgd_3x' in Sweep(plan, None, quiet).facts()['config']


def test_tables_share_the_runs_of_a_row(tmp_path: Path) -> None:
    table4, table6 = (plan_of(tmp_path, name).runs(['default', 'no-shift']) for name in ('table4', 'table6'))
    assert {run.folder: run.record() for run in table4} == {run.folder: run.record() for run in table6}


def test_the_row_is_replaced_in_the_weights_option(tmp_path: Path) -> None:
    runs = plan_of(tmp_path, weights='weights/{row}.pth').runs(['no-pos'])
    assert runs[0].config.model.backbone.init_cfg == dict(type='Pretrained', checkpoint='weights/no-pos.pth')
    assert plan_of(tmp_path, weights='none').runs()[0].config.model.backbone.init_cfg is None


def test_starting_weights_describes_or_raises(tmp_path: Path) -> None:
    scratch, missing = (plan_of(tmp_path, weights=source).runs(['no-pos'])[0] for source in ('none', 'absent.pth'))
    assert starting_weights(scratch) == 'from scratch'
    with pytest.raises(InputError, match=r'row no-pos: .*absent\.pth'):
        starting_weights(missing)


def test_weights_facts_describe_the_weights_of_all_rows() -> None:
    assert weights_facts({'a': 'from scratch', 'b': 'from scratch'}, 'none') == {'weights': 'every row from scratch'}
    facts = weights_facts({'a': 'loaded 3 of 3', 'b': 'loaded 2 of 3'}, None)
    assert 'the paper pre-trained every row separately' in facts['weights'] and facts['weights, b'] == 'loaded 2 of 3'
    assert weights_facts({'a': 'loaded'}, 'of/{row}.pth')['weights'] == 'a file for each row'


def test_the_state_of_a_run_is_determined_from_its_files(tmp_path: Path) -> None:
    run = plan_of(tmp_path).runs(['default'])[0]
    assert run.progress(METRICS).state is State.NEW
    run.write_config()
    assert run.progress(METRICS).state is State.NEW
    leave_checkpoint(run, 'iter_2.pth')
    found = run.progress(METRICS)
    assert found.state is State.INTERRUPTED and found.checkpoint == run.folder / 'iter_2.pth'
    leave_checkpoint(run, 'iter_4.pth')
    assert run.progress(METRICS).state is State.UNEVALUATED
    finish(run, mAcc=0.5)
    assert run.progress(METRICS).remark == 'its summary has no mIoU'
    finish(run, mIoU=0.5)
    assert run.progress(METRICS).state is State.FINISHED


@pytest.mark.parametrize(
    ('options', 'name'),
    [
        (dict(max_iters=5), 'train_cfg.max_iters is 4, not 5'),
        (dict(overrides={'optim_wrapper.optimizer.lr': 0.5}), 'optim_wrapper.optimizer.lr is 0.001, not 0.5'),
        (dict(weights='other.pth'), 'model.backbone.init_cfg is null, not'),
        (dict(data_root=str(REPOSITORY)), 'train_dataloader.dataset.data_root is "data/shapes/"'),
    ],
)
def test_runs_with_other_options_are_an_error_without_redo(options: dict[str, Any], name: str, tmp_path: Path) -> None:
    finish(plan_of(tmp_path).runs(['default'])[0], mIoU=0.5)
    sweep = Sweep(plan_of(tmp_path, **options), ['default'], quiet)
    assert any(line.startswith(name) for line in sweep.selected[0].differences() or [])
    with pytest.raises(InputError, match=r'was made with other options .*: choose another --work-dir, or add --redo'):
        sweep.clear(redo=False)
    assert sweep.outcomes()[0].state == State.OTHER.value
    sweep.clear(redo=True)
    assert sweep.progress_of(sweep.selected[0]).state is State.NEW and not sweep.selected[0].folder.exists()


def test_another_checkpoint_interval_keeps_a_run_finished(tmp_path: Path) -> None:
    finish(plan_of(tmp_path).runs(['default'])[0], mIoU=0.5)
    run = plan_of(tmp_path, overrides={'default_hooks.checkpoint.interval': 1}).runs(['default'])[0]
    assert run.progress(METRICS).state is State.FINISHED


def test_a_folder_without_recorded_options_is_not_finished(tmp_path: Path) -> None:
    run = plan_of(tmp_path).runs(['default'])[0]
    run.folder.mkdir(parents=True)
    (run.folder / 'summary.json').write_text('{"mIoU": 0.5}')
    assert run.progress(METRICS).state is State.OTHER


def test_differences_lists_nested_keys() -> None:
    old, new = dict(a=1, b=dict(c=[1, 2]), d=3), dict(a=1, b=dict(c=[1, 4]), e='x')
    assert differences(old, new) == ['b.c[1] is 2, not 4', 'd is 3, not null', 'e is null, not "x"']
    assert differences(dict(config=dict(a=1)), dict(config=dict(a=2))) == ['a is 1, not 2']


def test_commands_start_resume_or_evaluate_unfinished_runs(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    fresh, done, broken, trained = plan.runs(['no-shift', 'default', 'no-pos', 'abs-pos'])
    finish(done, mIoU=0.5)
    leave_checkpoint(broken, 'iter_2.pth')
    leave_checkpoint(trained, 'iter_4.pth')
    sweep = Sweep(plan, ['no-shift', 'default', 'no-pos', 'abs-pos'], quiet)
    lines = [shlex.split(line)[3:] for line in sweep.commands(LAUNCH)]
    end = ['--launcher', 'none']
    assert lines == [
        ['train', str(fresh.config_file), '--resume', '--work-dir', str(fresh.folder), *end],
        ['train', str(broken.config_file), '--resume', '--work-dir', str(broken.folder), *end],
        ['test', str(trained.config_file), str(trained.folder / 'iter_4.pth'), '--work-dir',
         str(trained.folder), *end],
    ]  # fmt: skip
    dumped = Config.fromfile(fresh.config_file)
    assert dumped.model.backbone.shift is False and dumped.randomness.seed == 0


@pytest.mark.parametrize(
    ('launcher', 'start'),
    [
        ('pytorch', '-m torch.distributed.run --standalone --nproc_per_node=8 -m swin_backbone.cli train'),
        ('slurm', 'srun --ntasks=8'),
        ('mpi', 'mpirun -n 8'),
    ],
)
def test_commands_use_the_launcher(launcher: str, start: str, tmp_path: Path) -> None:
    lines = Sweep(plan_of(tmp_path), ['default'], quiet).commands(Launch(launcher, 8))
    assert start in lines[0] and lines[0].endswith(f'--launcher {launcher}')


def test_a_failed_run_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    sweep = Sweep(plan_of(tmp_path), ['no-shift', 'default', 'no-pos'], said.append)
    first = sweep.selected[0]

    def program(run: Run, *_: Any) -> list[str]:
        run.write_config()
        text = 'exit 3' if run is first else 'exit 0'
        if run.row.run == 'default':
            finish(run, mIoU=0.5)
        return ['sh', '-c', text]

    monkeypatch.setattr(sweep, 'prepare', program)
    failures = sweep.start(LAUNCH)
    log = first.folder / 'console.log'
    assert failures[0] == f'no-shift seed 0 failed: exit code 3, see {log}' and log.is_file()
    assert len(failures) == 2 and 'no summary was written' in failures[1]
    assert any(line.startswith('default seed 0: mIoU 50.00') for line in said)
    table = (sweep.plan.report_dir / 'table.md').read_text()
    assert '| w/o shifting | 80.2 | 43.3 | -2.8 | failed |' in table and '50.00' in table


def test_finished_runs_are_kept(tmp_path: Path) -> None:
    said: list[str] = []
    plan = plan_of(tmp_path)
    for run in plan.runs():
        finish(run, mIoU=0.25)
    assert Sweep(plan, None, said.append).start(LAUNCH) == []
    assert said == ['6 of 6 runs are already finished and are kept']
    assert (plan.report_dir / 'index.html').is_file()


def test_make_data_writes_the_demo_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []
    monkeypatch.setattr(ablation_demo, 'write_neighbours', made.append)
    assert ablation_demo.make_data() == Path('data/neighbours')
    assert ablation_demo.make_data(str(tmp_path)) == tmp_path and made == [Path('data/neighbours'), tmp_path]


@pytest.mark.parametrize('task', ['segmentation', 'detection'])
def test_facts_warn_about_the_scores_of_the_demo(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    plan = make_plan('table4', task, None, None, [0], demo=True, check_data=False)
    assert plan.work_dir == Path('work_dirs/ablate-demo') and plan.base.data_root == f'{ablation_demo.ROOT}/'
    assert 'not values' in Sweep(plan, None, quiet).facts()['the demo']


def test_time_left_is_estimated_from_finished_runs() -> None:
    assert time_left([100.0, 140.0], left=3, jobs=2) == 'about 4 min'
    assert time_left([3600.0], left=5, jobs=1) == 'about 5.0 h'


def test_unknown_rows_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match='table6 has no row no-pos: use sliding, performer, no-shift, default'):
        TABLES['table6'].choose(['no-pos'])


def test_configs_with_another_backbone_are_an_error(tmp_path: Path) -> None:
    config = str(REPOSITORY / 'configs/detection/cascade_r50_3x.py')
    with pytest.raises(InputError, match=r'the backbone of .* is not swin_backbone\.SwinTransformer'):
        make_plan('table4', 'detection', config, str(tmp_path), [0], check_data=False)
