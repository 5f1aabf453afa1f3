"""The command `ablate`: an interrupted and continued sweep, timings, and invalid input."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from swin_backbone import cli
from swin_backbone.ablations.paper_v1 import METHODS
from swin_backbone.cli import ablate
from swin_backbone.datasets.shapes import ShapesSpec, write_shapes
from tests.conftest import REPOSITORY

pytest.importorskip('mmseg', reason='MMSegmentation is not installed')

CONFIG = 'configs/segmentation/upernet_swin_demo.py'
SMALL = ['train_dataloader.batch_size=2', 'train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False']
SMALL += ['val_dataloader.num_workers=0', 'val_dataloader.persistent_workers=False', 'model.backbone.embed_dim=16']
SMALL += ['model.decode_head.in_channels=[16,32,64,128]', 'model.auxiliary_head.in_channels=64']


def call(*args: object) -> None:
    """Run the command in this process."""
    cli.run(ablate.main, [str(arg) for arg in args])


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['table3'], 'invalid choice'),
        (['table4', '--task', 'video'], 'invalid choice'),
        (['table4', '--batch', '2'], 'unrecognized arguments: --batch 2'),
        (['table9', '--demo'], 'unrecognized arguments: --demo'),
        (['table9', '--rows', 'r18-sgd', '--print-commands'], 'table9 has no row r18-sgd: use r50-sgd, r50-adamw'),
        (['table5', '--seeds', '0', '1'], 'unrecognized arguments: --seeds 0 1'),
        (['table4', '--seeds', '1', '1'], '--seeds must be a number of seeds or several different seeds'),
        (['table4', '--seeds', '0'], '--seeds must be a number of seeds or several different seeds'),
        (['table4', '--jobs', '0'], '--jobs must be at least 1, got 0.'),
        (['table4', '--gpus', '8'], '--gpus needs a launcher: add --launcher pytorch.'),
        (['table4', '--config', 'configs/absent.py'], 'there is no config configs/absent.py'),
        (['table4', '--config', 'configs/detection/cascade_r50_3x.py', '--print-commands'], 'the backbone of'),
        (['table4', '--data-root', 'absent'], '--data-root absent is not a folder'),
        (['table4', '--data-root', 'tests'], 'the data set is incomplete'),
        (['table4', '--rows', 'rope', '--print-commands'], 'table4 has no row rope: use no-shift, default'),
        (['table5', '--rows', 'rope'], 'table5 has no row rope: use sliding-naive'),
        (['table5', '--shape', '0', '4'], '--shape must be at least 1 1'),
        (['table5', '--rounds', '0'], '--rounds must be at least 1'),
        (['table5', '--warm-up', '-1'], '--warm-up must be at least 0'),
    ],
)
def test_invalid_input_exits_with_2_and_one_sentence(
    args: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises(SystemExit) as stop:
        call(*args)
    assert stop.value.code == 2
    errors = capsys.readouterr().err.strip()
    assert message in errors and 'Traceback' not in errors and len(errors.splitlines()) == 1


def test_print_commands_lists_the_command_of_each_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Data and weights need not exist on the machine that prints the commands."""
    monkeypatch.chdir(REPOSITORY)
    options = ['--rows', 'no-shift', 'default', '--seeds', '2', '--launcher', 'pytorch', '--gpus', '4']
    with pytest.raises(SystemExit) as stop:
        call('table4', '--task', 'detection', '--work-dir', tmp_path, '--print-commands', *options)
    assert stop.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    folders = [tmp_path / 'detection' / row / f'seed{seed}' for seed in (0, 1) for row in ('no-shift', 'default')]
    assert [line.split('--work-dir ')[1] for line in lines] == [f'{folder} --launcher pytorch' for folder in folders]
    assert all('--nproc_per_node=4' in line and '-m swin_backbone.cli train' in line for line in lines)
    assert all((folder / 'ablation.py').is_file() for folder in folders)


def test_table5_times_every_method(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    options = ['--shape', 32, 32, '--batch', 1, '--warm-up', 0, '--rounds', 1, '--variants', 'tiny']
    with pytest.raises(SystemExit) as stop:
        call('table5', '--work-dir', tmp_path, *options)
    assert stop.value.code == 0
    content = json.loads((tmp_path / 'table5' / 'table.json').read_text())
    parts = [f'stage {number}' for number in (1, 2, 3, 4)] + ['tiny']
    assert content['left_out'] == {}
    assert [(timing['part'], timing['name']) for timing in content['timings']] == [
        (part, method.name) for part in parts for method in METHODS
    ]
    assert 'shifted window (cyclic)' in capsys.readouterr().out


@pytest.mark.slow
def test_an_interrupted_sweep_is_continued(tmp_path: Path) -> None:
    write_shapes(tmp_path / 'shapes', ShapesSpec(train_count=4, val_count=2))
    command = [sys.executable, 'tools/ablate.py', 'table4', '--config', CONFIG, '--data-root', tmp_path / 'shapes']
    command += ['--work-dir', tmp_path / 'runs', '--rows', 'no-shift', 'default', '--max-iters', '2']
    command = [str(word) for word in [*command, '--cfg-options', *SMALL]]
    sweep = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert sweep.stdout is not None and sweep.stderr is not None
    for line in sweep.stdout:
        if line.startswith('default seed 0 starts'):
            sweep.send_signal(signal.SIGTERM)  # a background job would ignore Ctrl-C
        last = line
    errors = sweep.stderr.read()
    assert last.strip() == 'interrupted: repeat the command to continue'
    assert sweep.wait() == 130 and errors.strip() == 'interrupted'
    first, second = (tmp_path / 'runs' / 'segmentation' / row / 'seed0' for row in ('no-shift', 'default'))
    made = (first / 'summary.json').stat().st_mtime_ns
    assert not (second / 'summary.json').exists()
    assert (
        '| shifted windows | 81.3 | 46.1 | – | not run |'
        in (tmp_path / 'runs/table4-segmentation/table.md').read_text()
    )

    again = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr[-3000:]
    assert (
        '1 of 2 runs are already finished and are kept' in again.stdout and 'no-shift seed 0 starts' not in again.stdout
    )
    assert (first / 'summary.json').stat().st_mtime_ns == made
    assert 0 <= json.loads((second / 'summary.json').read_text())['mIoU'] <= 1
    assert '- runs: 2 of 6 finished' in again.stdout and '- weights: every row from scratch' in again.stdout
    log = (second / 'console.log').read_text()
    assert 'none: trained from scratch' in log
