"""The lock file that allows one run per folder."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from swin_backbone.engine import lock
from swin_backbone.engine.lock import check_free, locked
from swin_backbone.errors import InputError


def holder(**changes: object) -> str:
    return json.dumps({**lock.this_process(), 'since': '2030-01-01 00:00:00', **changes})


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, '-c', ''])
    process.wait()
    return process.pid


def test_a_second_run_reports_the_process_that_uses_the_folder(tmp_path: Path) -> None:
    with locked(tmp_path / 'run'):
        message = rf'run is in use by process {os.getpid()} on {socket.gethostname()} since 20'
        with pytest.raises(InputError, match=message), locked(tmp_path / 'run'):
            pass
        with pytest.raises(InputError, match=message):
            check_free(tmp_path / 'run')
    with locked(tmp_path / 'run'):
        pass
    check_free(tmp_path / 'run')
    check_free(tmp_path / 'absent')


@pytest.mark.parametrize(
    'text',
    [
        '',
        'garbage',
        '[1]',
        '{"host": 1}',
        holder(pid=ended_process()),
        holder(begun=1),
        holder(pid='x'),
        holder(pid=2**70),
    ],
    ids=['empty', 'garbage', 'list', 'incomplete', 'ended', 'another with its number', 'no number', 'no process'],
)
def test_stale_locks_are_replaced(text: str, tmp_path: Path) -> None:
    (tmp_path / lock.NAME).write_text(text)
    with locked(tmp_path):
        assert json.loads((tmp_path / lock.NAME).read_text())['pid'] == os.getpid()
    assert (tmp_path / lock.NAME).read_text() == ''


def test_a_lock_of_another_machine_is_reported_with_its_file(tmp_path: Path) -> None:
    (tmp_path / lock.NAME).write_text(holder(host='node-7', pid=3))
    message = r'by process 3 on node-7 since .* or delete .*\.running if that process'
    with pytest.raises(InputError, match=message), locked(tmp_path):
        pass
    assert 'node-7' in (tmp_path / lock.NAME).read_text()


def test_only_the_first_process_writes_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('RANK', '1')
    with locked(tmp_path), locked(tmp_path):
        assert not (tmp_path / lock.NAME).exists()
