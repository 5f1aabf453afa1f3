"""Logging to TensorBoard and Weights & Biases."""

import pytest
from mmengine.config import Config

from swin_backbone.engine import train as trackers
from swin_backbone.errors import InputError


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
