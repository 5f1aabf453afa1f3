"""Checkpoints of a run: their number, atomic writing, and checks when resuming."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

from swin_backbone.engine.resume import set_resume
from swin_backbone.engine.run_checkpoints import POINTER
from swin_backbone.engine.train import StartSummaryHook
from swin_backbone.errors import InputError, RunFailure
from tests.engine.small_run import toy_config, train


@pytest.fixture(scope='module')
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('finished')
    train(toy_config(folder, False))
    return folder


def copy_run(finished: Path, folder: Path) -> None:
    for name in ('iter_12.pth', 'iter_15.pth', POINTER):
        (folder / name).write_bytes((finished / name).read_bytes())


def test_old_checkpoints_are_deleted_after_a_kill(tmp_path: Path) -> None:
    config = toy_config(tmp_path, False)
    config.default_hooks.checkpoint.update(save_best='toy/score', rule='greater', interval=2)
    train(config, killed_at=9)
    (tmp_path / '.iter_10.pth.abcd1234.pth').write_bytes(b'half')
    set_resume(config, 'auto')
    train(config)
    assert sorted(path.name for path in tmp_path.glob('*.pth')) == [
        'best_toy_score_iter_6.pth',
        'iter_14.pth',
        'iter_15.pth',
    ]
    assert not list(tmp_path.glob('.*.pth')) and (tmp_path / POINTER).read_text() == 'iter_15.pth'


def test_a_failed_write_keeps_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, replace = toy_config(tmp_path, False), os.replace

    def full(source: Any, target: Any) -> None:
        if Path(target).name == 'iter_8.pth':
            raise OSError(28, 'No space left on device')
        replace(source, target)

    monkeypatch.setattr(os, 'replace', full)
    with pytest.raises(RunFailure, match=r'iter_8\.pth cannot be written \(No space left on device\)'):
        train(config)
    assert [path.name for path in tmp_path.glob('*.pth')] == ['iter_4.pth']
    assert (tmp_path / POINTER).read_text() == 'iter_4.pth' and not list(tmp_path.glob('.*.pth'))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-400])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (lambda folder: cut(folder / 'iter_15.pth'), r'iter_15\.pth is (damaged or )?incomplete'),
        (lambda folder: flip(folder / 'iter_15.pth'), r'iter_15\.pth is damaged'),
        (lambda folder: (folder / 'iter_15.pth').write_bytes(b''), r'iter_15\.pth is empty'),
        (lambda folder: (folder / 'iter_15.pth').unlink(), r'points to iter_15\.pth, which does not exist'),
        (lambda folder: (folder / POINTER).write_text('http://example.com/iter_15.pth'), 'which is not in'),
        (lambda folder: (folder / POINTER).write_text('../other/iter_15.pth'), 'which is not in'),
        (lambda folder: (folder / POINTER).write_bytes(b'\xff\xfe\x00'), '(cannot be read|which is not in)'),
        (lambda folder: (folder / POINTER).unlink(), ''),
    ],
)
def test_resume_uses_the_newest_intact_checkpoint(
    damage: Any, message: str, finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy_run(finished, tmp_path)
    damage(tmp_path)
    config = toy_config(tmp_path, False)
    set_resume(config, 'auto')
    kept = not message or 'which is not in' in message
    assert config.resume and Path(config.load_from).name == ('iter_15.pth' if kept else 'iter_12.pth')
    if message:
        assert re.search(message, caplog.text) and 'The run continues from' in caplog.text


def test_resume_without_intact_checkpoints(finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    copy_run(finished, tmp_path)
    for name in ('iter_12.pth', 'iter_15.pth'):
        cut(tmp_path / name)
    with pytest.raises(InputError, match=r'no checkpoint in .* can be resumed: .*iter_15.*iter_12') as error:
        set_resume(toy_config(tmp_path, False), 'auto')
    assert '\n' not in str(error.value)
    config = toy_config(tmp_path / 'new', False, load_from='weights.pth')
    set_resume(config, 'auto')
    assert config.load_from == 'weights.pth' and not config.resume
    assert 'no checkpoint in' in caplog.text and 'starts from its beginning' in caplog.text


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            dict(param_scheduler=dict(type='CosineAnnealingLR', by_epoch=False, T_max=30)),
            'T_max is 15 in the checkpoint, 30 in',
        ),
        (dict(optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.2))), 'initial_lr is 0.1 in the checkpoint, 0.2 in'),
        (dict(), ''),
    ],
)
def test_a_different_schedule_in_the_config_is_reported(
    change: dict[str, Any], message: str, finished: Path, tmp_path: Path
) -> None:
    copy_run(finished, tmp_path)
    config = toy_config(tmp_path, False, count=15, **change)
    set_resume(config, 'auto')
    summary = StartSummaryHook('float32')
    train(config, hook=summary)
    assert (message in summary.changed and 'WARNING' in summary.changed) if message else summary.changed == ''


def test_a_resumed_run_keeps_its_seed(finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    copy_run(finished, tmp_path)
    for given in (None, 6):
        config = toy_config(tmp_path, False, randomness=dict(seed=given))
        set_resume(config, 'auto')
        assert config.randomness.seed == 5
    assert 'seed 6 is not used' in caplog.text


def resume_and_train(config: Config, path: Path) -> None:
    set_resume(config, str(path))
    train(config)


@pytest.mark.parametrize(
    'change',
    [
        dict(meta=dict(epoch='x', iter=15)),
        dict(optimizer=dict(state={}, param_groups=[])),
        dict(param_schedulers=[3]),
        dict(message_hub=3),
        dict(random_state=dict(python=3)),
    ],
)
def test_invalid_states_raise_input_error_with_one_sentence(
    change: dict[str, Any], finished: Path, tmp_path: Path
) -> None:
    content = torch.load(finished / 'iter_15.pth', weights_only=False)
    torch.save({**content, **change}, tmp_path / 'changed.pth')
    config = toy_config(tmp_path / 'run', False, count=18)
    with pytest.raises(InputError, match=r'changed\.pth cannot be resumed') as error:
        resume_and_train(config, tmp_path / 'changed.pth')
    assert '\n' not in str(error.value)


def test_a_malicious_checkpoint_cannot_delete_other_files(finished: Path, tmp_path: Path) -> None:
    content = torch.load(finished / 'iter_12.pth', weights_only=False)
    owned, mark = tmp_path / 'precious.pth', tmp_path / 'owned'
    owned.write_bytes(b'x')
    content['message_hub']['runtime_info'].update(
        best_ckpt=str(owned), best_score=-1.0, keep_ckpt_ids=['../precious', '/../../precious']
    )
    content['meta']['config'] = f'open({str(mark)!r}, "w")'
    (tmp_path / 'run').mkdir()
    torch.save(content, tmp_path / 'run/iter_12.pth')
    config = toy_config(tmp_path / 'run', False, count=18)
    config.default_hooks.checkpoint.update(save_best='toy/score', rule='greater', interval=1)
    set_resume(config, 'auto')
    train(config)
    assert owned.exists() and not mark.exists()
