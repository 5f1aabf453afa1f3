"""Checkpoints of whole models: safe reading, strict loading, and an unchanged process state."""

import logging
import os
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader, checkpoint, load_checkpoint
from torch import nn

import swin_backbone.registry  # noqa: F401  allows mmengine's loader to read log histories
from swin_backbone import cli
from swin_backbone.datasets.shapes import ShapesSpec, write_shapes
from swin_backbone.engine.checkpoints import load_safely, load_whole, reading_safely
from swin_backbone.engine.hooks import WholeModelHook
from swin_backbone.errors import InputError
from tests.checkpoint.layouts import Sizes, layout_state
from tests.demo_models import SEGMENTATION
from tests.helpers import tiny_backbone

FORCE_SAFE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
SMALL = Sizes(16, (2, 2, 2, 2), (1, 2, 4, 8), window=4, tokens=64)


class Detector(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.backbone = tiny_backbone(window_size=4, **options)
        self.neck = nn.Sequential(nn.Conv2d(16, 4, 1), nn.BatchNorm2d(4))


class Payload:
    """Unpickling it creates a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def process_state() -> tuple[Any, ...]:
    listed = getattr(checkpoint, 'get_torch_safe_globals', None)
    return (
        os.environ.get(FORCE_SAFE),
        set(torch.serialization.get_safe_globals()),
        listed,
        dict(CheckpointLoader._schemes),
    )


@pytest.mark.parametrize('forced', [None, '0'])
@pytest.mark.parametrize('fails', [False, True])
def test_reading_safely_restores_the_process_state(
    forced: str | None, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, 'get_torch_safe_globals', lambda: [getattr], raising=False)
    monkeypatch.delenv(FORCE_SAFE, raising=False)
    if forced is not None:
        monkeypatch.setenv(FORCE_SAFE, forced)
    before = process_state()
    try:
        with reading_safely():
            assert os.environ[FORCE_SAFE] == '1' and checkpoint.get_torch_safe_globals() == []
            if fails:
                raise KeyError
    except KeyError:
        pass
    assert process_state() == before


def test_mmengine_reads_log_histories_within_the_context(tmp_path: Path) -> None:
    model, before = nn.Linear(1, 1), process_state()
    path = tmp_path / 'run.pth'
    torch.save({'state_dict': model.state_dict(), 'message_hub': {'loss': HistoryBuffer([3.0], [1])}}, path)
    with reading_safely():
        assert load_checkpoint(model, str(path))['message_hub']['loss'].mean() == 3.0
    path.write_bytes(path.read_bytes()[:-300])
    with reading_safely(), pytest.raises(InputError, match='incomplete'):
        load_checkpoint(model, str(path))
    assert process_state() == before


def test_a_runner_reads_safely_only_while_loading() -> None:
    seen, before = [], process_state()
    runner = SimpleNamespace(
        _init_model_weights=lambda: seen.append(os.environ.get(FORCE_SAFE)),
        load_or_resume=lambda: seen.append(os.environ.get(FORCE_SAFE)),
    )
    load_safely(runner)
    runner._init_model_weights()
    assert process_state() == before
    runner.load_or_resume()
    assert seen == ['1', '1'] and process_state() == before


@pytest.mark.parametrize('wrapping', ['plain', 'state_dict', 'data parallel', 'foreign', 'more heads'])
def test_load_whole_accepts_every_container_and_layout(wrapping: str, tmp_path: Path) -> None:
    source, model = Detector(), Detector()
    state = source.state_dict()
    contents: dict[str, Any] = {
        'plain': state,
        'state_dict': {'state_dict': state, 'meta': {}},
        'data parallel': {'state_dict': {f'module.{name}': value for name, value in state.items()}},
        'more heads': {'state_dict': {**state, 'mask_head.weight': torch.ones(1)}},
    }
    neck = {name: value for name, value in state.items() if name.startswith('neck')}
    stock = {name: value for name, value in layout_state('mm', SMALL, 1).items() if name.startswith('backbone')}
    norms = {f'backbone.norm{i}.{kind}': torch.ones(16 << i) for i in range(4) for kind in ('weight', 'bias')}
    contents['foreign'] = {'state_dict': {**stock, **norms, **neck}}
    torch.save(contents[wrapping], tmp_path / 'model.pth')
    load_whole(model, tmp_path / 'model.pth')
    assert torch.equal(model.neck[0].weight, source.neck[0].weight)
    if wrapping != 'foreign':
        assert torch.equal(model.backbone.norm3.weight, source.backbone.norm3.weight)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda state: {}, "the part 'backbone' of .*model.pth contains no Swin backbone"),
        (lambda state: {'state_dict': 3}, 'model.pth contains no state dict'),
        (lambda state: {k: v for k, v in state.items() if 'norm2.bias' not in k}, "part 'backbone' of .*missing"),
        (lambda state: {**state, 'backbone.layers.1.blocks.2.norm1.bias': torch.ones(32)}, 'unexpected 1'),
        (
            lambda state: {k: v for k, v in state.items() if k != 'neck.0.bias'},
            r'1 of the 129 parameters of the model are missing, the first is neck\.0',
        ),
        (
            lambda state: {k: v for k, v in state.items() if 'running_mean' not in k},
            r'1 of the 2 batch statistics of the model are missing',
        ),
        (lambda state: {**state, 'neck.0.bias': torch.ones(5)}, r'size mismatch for neck\.0\.bias'),
        (lambda state: Detector(depths=(2, 2, 3, 2)).state_dict(), r'built with .*depths=\(2, 2, 3, 2\)'),
    ],
)
def test_checkpoints_of_other_models_raise_input_error(change: Any, message: str, tmp_path: Path) -> None:
    torch.save(change(dict(Detector().state_dict())), tmp_path / 'model.pth')
    with pytest.raises(InputError, match=message) as error:
        load_whole(Detector(), tmp_path / 'model.pth')
    assert '\n' not in str(error.value)


def loaded_by(hook: WholeModelHook, content: dict[str, Any], resume: bool = False) -> Detector:
    runner = SimpleNamespace(model=Detector(), _load_from='run.pth', _resume=resume)
    hook.after_load_checkpoint(runner, content)
    return runner.model


def test_heads_may_differ_only_when_training_starts_from_a_model() -> None:
    state = Detector().state_dict()
    other = {**state, 'neck.0.weight': torch.ones(7, 16, 1, 1)}
    loaded_by(WholeModelHook(heads=False), other)
    with pytest.raises(InputError, match='size mismatch'):
        loaded_by(WholeModelHook(), other)
    with pytest.raises(InputError, match=r"the part 'backbone' of run\.pth contains no Swin backbone"):
        loaded_by(WholeModelHook(heads=False), {'neck.0.weight': state['neck.0.weight']})


def test_resuming_from_weights_alone_raises_input_error() -> None:
    state = Detector().state_dict()
    loaded_by(WholeModelHook(), {'state_dict': state, 'meta': dict(epoch=1, iter=2), 'message_hub': {}}, resume=True)
    with pytest.raises(InputError, match=r'run\.pth cannot be resumed'):
        loaded_by(WholeModelHook(), {'state_dict': state}, resume=True)


@pytest.fixture(scope='module')
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('data') / 'shapes'
    write_shapes(root, ShapesSpec(train_count=2, val_count=1))
    return root


def save_broken(kind: str, path: Path) -> str:
    """Write a file that every command rejects, and return the expected message."""
    if kind == 'truncated':
        torch.save({'state_dict': nn.Linear(50, 50).state_dict()}, path)
        path.write_bytes(path.read_bytes()[:-3000])
        return f'error: {path} is incomplete: it is cut off after {path.stat().st_size:,} bytes'
    torch.save({'state_dict': {}, 'meta': Payload(path.with_suffix('.owned'))}, path)
    return f'error: {path} is rejected: reading it would need builtins.getattr'


@pytest.mark.parametrize('kind', ['truncated', 'evil'])
@pytest.mark.parametrize('command', ['predict', 'test', 'train'])
def test_every_command_reports_a_broken_file_with_the_same_message(
    command: str,
    kind: str,
    shapes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging, 'raiseExceptions', False)  # handlers of earlier runs write to a closed stream
    path = tmp_path / 'broken.pth'
    message = save_broken(kind, path)
    before = process_state()
    run = ['--work-dir', str(tmp_path / 'work'), '--data-root', str(shapes)]
    arguments = {
        'predict': [str(SEGMENTATION), str(path), str(shapes / 'val2017'), '--out-dir', str(tmp_path / 'drawn')],
        'test': [str(SEGMENTATION), str(path), *run],
        'train': [str(SEGMENTATION), '--resume', str(path), '--max-iters', '1', *run],
    }[command]
    with pytest.raises(SystemExit) as stop:
        cli.run(import_module(f'swin_backbone.cli.{command}').main, arguments)
    errors = capsys.readouterr().err
    assert stop.value.code == 2 and message in errors.splitlines()[-1] and 'Traceback' not in errors
    assert not path.with_suffix('.owned').exists() and process_state() == before
