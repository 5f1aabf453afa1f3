"""Logging of curves to files, TensorBoard and Weights & Biases."""

from pathlib import Path

import pytest
from mmengine.config import Config

from swin_backbone.engine import train as trackers
from swin_backbone.errors import InputError
from tests.engine.small_run import build, toy_config


def backends(monkeypatch: pytest.MonkeyPatch, installed: set[str], project: str | None, *present: str) -> list[str]:
    monkeypatch.setattr(trackers, 'is_installed', lambda package: package in installed)
    config = Config(dict(visualizer=dict(type='Visualizer', vis_backends=[dict(type=name) for name in present])))
    trackers.set_trackers(config, project)
    return [backend.type for backend in config.visualizer.vis_backends]


def test_tensorboard_is_used_if_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    local, board = 'LocalVisBackend', 'TensorboardVisBackend'
    assert backends(monkeypatch, {'tensorboard'}, None, local) == [local, board]
    assert backends(monkeypatch, {'tensorboard'}, None) == [local, board]
    assert backends(monkeypatch, {'tensorboard'}, None, local, board) == [local, board]
    assert backends(monkeypatch, set(), None, local) == [local]


def test_weights_and_biases_backend_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, 'is_installed', lambda package: True)
    config = Config(dict(visualizer=dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])))
    trackers.set_trackers(config, 'swin')
    assert config.visualizer.vis_backends[-1] == dict(type='WandbVisBackend', init_kwargs=dict(project='swin'))
    with pytest.raises(InputError, match='pip install wandb'):
        backends(monkeypatch, set(), 'swin', 'LocalVisBackend')


def test_two_runs_in_one_process_log_to_their_own_work_dirs(tmp_path: Path) -> None:
    named = dict(type='Visualizer', name='visualizer', vis_backends=[dict(type='LocalVisBackend')])
    for name in ('first', 'second'):
        runner = build(toy_config(tmp_path / name, by_epoch=False, visualizer=dict(named)))
        runner.visualizer.add_scalar('loss', 1.0)
        dumped = next((tmp_path / name).glob('*.py'))
        assert Config.fromfile(dumped).visualizer == named, 'the tools of the toolkits need the name'
    scalars = sorted(path.relative_to(tmp_path).parts[0] for path in tmp_path.glob('*/*/vis_data/scalars.json'))
    assert scalars == ['first', 'second']
