"""Small options of `train`, and messages for unknown options."""

import copy
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from swin_backbone.cli import train
from swin_backbone.cli._options import use_machine
from swin_backbone.engine.run_options import describe_machine, set_epochs, set_workers, skip_validation
from swin_backbone.errors import InputError
from tests.demo_models import DETECTION, SEGMENTATION, read_config


def copy_of(path: Any) -> Any:
    return copy.deepcopy(read_config(path))


@pytest.mark.parametrize(('epochs', 'end'), [(4, 4), (16, 16), (1, 1)])
def test_epochs_scale_the_schedule(epochs: int, end: int) -> None:
    config = copy_of(DETECTION)
    config.param_scheduler.append(dict(type='MultiStepLR', by_epoch=True, begin=0, end=8, milestones=[6, 7]))
    set_epochs(config, epochs)
    warmup, cosine, steps = config.param_scheduler
    assert config.train_cfg.max_epochs == epochs and config.train_cfg.val_interval <= epochs
    assert warmup['end'] == 50 and cosine['T_max'] == steps['end'] == end
    assert steps['begin'] == 0 and steps['milestones'] == [max(1, round(m * epochs / 8)) for m in (6, 7)]
    assert config.default_hooks.checkpoint.interval <= epochs


def test_epochs_of_an_iteration_based_config_raise_input_error() -> None:
    with pytest.raises(InputError, match='counts iterations, not epochs: use --max-iters'):
        set_epochs(copy_of(SEGMENTATION), 3)


def test_set_workers_and_skip_validation() -> None:
    config = copy_of(DETECTION)
    set_workers(config, 0)
    assert config.train_dataloader.num_workers == 0 and config.val_dataloader.persistent_workers is False
    config.default_hooks.checkpoint.save_best = 'auto'
    skip_validation(config)
    assert config.val_cfg is None and 'save_best' not in config.default_hooks.checkpoint


def test_a_loaded_machine_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, 'cpu_count', lambda: 2)
    monkeypatch.setattr(os, 'getloadavg', lambda: (12.0, 0.0, 0.0))
    monkeypatch.setattr('torch.get_num_threads', lambda: 2)
    assert 'the load of the machine is 12.0 on 2 cores' in describe_machine(0)
    monkeypatch.setattr(os, 'getloadavg', lambda: (1.0, 0.0, 0.0))
    assert 'WARNING' not in describe_machine(0)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--lrr', '0.1'], r'unrecognized arguments: --lrr 0\.1: did you mean --lr\?'),
        (['optim_wrapper.lr=0.1'], 'values of the config are set with --cfg-options KEY=VALUE'),
    ],
)
def test_an_unknown_option_suggests_the_nearest(
    options: Sequence[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        train.parse([str(DETECTION), *options])
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--batch-size', '0'], '--batch-size must be at least 1'),
        (['--workers', '-1'], '--workers must be at least 0'),
        (['--epochs', '2', '--max-iters', '3'], 'cannot be combined'),
    ],
)
def test_invalid_options_raise_input_error(options: Sequence[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        train.parse([str(DETECTION), *options])


def test_gpus_option_starts_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    monkeypatch.setattr(os, 'execv', lambda program, command: started.append(command))
    monkeypatch.setitem(os.environ, 'OMP_NUM_THREADS', '1')
    train.main([str(DETECTION), '--gpus', '2', '--device', 'cpu'])
    (command,) = started
    assert command[:3] == [sys.executable, '-m', 'torch.distributed.run'] and '--nproc-per-node=2' in command
    assert command[-2:] == ['--launcher', 'pytorch']
    monkeypatch.setattr('torch.cuda.device_count', lambda: 1)
    with pytest.raises(InputError, match=r'--gpus 2 exceeds the number of visible GPUs \(1\)'):
        train.main([str(DETECTION), '--gpus', '2'])


@pytest.mark.parametrize('device', ['gpu', 'cpu:1', 'cuda:x'])
def test_unknown_devices_raise_input_error(device: str) -> None:
    with pytest.raises(InputError, match='use cpu, cuda or cuda:N'):
        use_machine(device, None)
