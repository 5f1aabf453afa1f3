"""Several processes at a time: order, environment, exit codes, and none left behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from swin_backbone.ablations.pool import Job, make_slots, run_pool
from swin_backbone.errors import InputError


def shell(text: str, log: Path) -> Job:
    return Job(['sh', '-c', text], log)


def test_every_job_runs_and_reports(tmp_path: Path) -> None:
    codes: dict[int, int] = {}
    texts = ['echo one; exit 0', 'echo two >&2; exit 7', 'echo $WHERE']
    slots = [{'WHERE': 'here'}, {'WHERE': 'here'}]

    def begin(number: int) -> Job:
        return shell(texts[number], tmp_path / 'logs' / f'{number}')

    run_pool(3, slots, begin, lambda number, code, seconds: codes.update({number: code}))
    assert codes == {0: 0, 1: 7, 2: 0}
    assert [(tmp_path / 'logs' / f'{n}').read_text() for n in range(3)] == ['one\n', 'two\n', 'here\n']


def test_one_slot_keeps_the_order(tmp_path: Path) -> None:
    log = tmp_path / 'log'
    run_pool(3, [{}], lambda number: shell(f'echo {number}', log), lambda *_: None)
    assert log.read_text() == '0\n1\n2\n'


def test_an_interruption_leaves_nothing_behind(tmp_path: Path) -> None:
    """The job and what it has started get the signal, and are gone before the exception goes on."""
    started: list[int] = []

    def begin(number: int) -> Job:
        if number == 1:
            raise KeyboardInterrupt
        return shell(f'echo $$ > {tmp_path}/pid; exec sleep 1000', tmp_path / 'log')

    with pytest.raises(KeyboardInterrupt):
        run_pool(2, [{}, {}], begin, lambda *_: started.append(1))
    assert not started
    pids = (tmp_path / 'pid').read_text().split() if (tmp_path / 'pid').is_file() else []
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


def test_a_batch_system_ends_it_like_ctrl_c() -> None:
    program = (
        'import os, signal\n'
        'from pathlib import Path\n'
        'from swin_backbone.ablations.pool import Job, run_pool\n'
        'def begin(number):\n'
        '    os.kill(os.getpid(), signal.SIGTERM)\n'
        "    return Job(['sleep', '1000'], Path(os.devnull))\n"
        'try:\n'
        '    run_pool(1, [{}], begin, print)\n'
        'except KeyboardInterrupt:\n'
        '    raise SystemExit(130)\n'
    )
    assert subprocess.run([sys.executable, '-c', program]).returncode == 130
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_gpus_are_dealt_out() -> None:
    slots = make_slots(2, 2, ['0', '1', '4', '5', '6'])
    assert slots == [{'CUDA_VISIBLE_DEVICES': '0,1'}, {'CUDA_VISIBLE_DEVICES': '4,5'}]
    with pytest.raises(InputError, match='need 4 GPUs, 3 are there'):
        make_slots(2, 2, ['0', '1', '2'])


def test_cores_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, 'cpu_count', lambda: 8)
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    assert make_slots(2, 1, []) == [{'OMP_NUM_THREADS': '4'}] * 2
    assert make_slots(1, 1, []) == [{}]
    monkeypatch.setenv('OMP_NUM_THREADS', '3')
    assert make_slots(2, 1, []) == [{}, {}]
