"""The process pool: order, environment, exit codes, and termination of all processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip('mmengine', reason='mmengine is not installed')

from swin_backbone.ablations import process_pool
from swin_backbone.ablations.process_pool import Job, Launch, Pool, interrupt_on_signals, make_slots
from swin_backbone.errors import InputError

HOLD_OPEN = 'exec 3>{fifo}; sleep 30 & echo ready >&3; wait'
"""A shell with a child; both keep the fifo open while they run."""

STUBBORN = f"trap '' TERM; {HOLD_OPEN}"
"""The same, but both ignore SIGTERM."""


def shell(text: str, log: Path) -> Job:
    return Job(['sh', '-c', text], log)


def open_fifo(folder: Path) -> tuple[Path, int]:
    """Create a fifo; return its path and a descriptor for reading."""
    os.mkfifo(folder / 'fifo')
    return folder / 'fifo', os.open(folder / 'fifo', os.O_RDONLY | os.O_NONBLOCK)


def wait_for_start(reader: int) -> None:
    """Wait until the processes that write to the fifo have started."""
    for _ in range(500):
        try:
            if os.read(reader, 6):
                return
        except BlockingIOError:
            pass  # open, but nothing written yet
        time.sleep(0.02)
    raise AssertionError('the process did not start')


def require_end(reader: int) -> None:
    """Fail if any process still has the fifo open; reading returns the end of the file once all have closed it."""
    for _ in range(50):  # files of a killed process are closed with a delay
        try:
            assert os.read(reader, 1) == b''
            return
        except BlockingIOError:
            time.sleep(0.02)
    raise AssertionError('a process was left behind')


def test_every_job_runs_and_its_exit_code_and_output_are_recorded(tmp_path: Path) -> None:
    codes: dict[int, int] = {}
    texts = ['echo one; exit 0', 'echo two >&2; exit 7', 'echo $WHERE']

    def begin(number: int) -> Job:
        return shell(texts[number], tmp_path / 'logs' / f'{number}')

    Pool([{'WHERE': 'here'}] * 2).run(3, begin, lambda number, code, seconds: codes.update({number: code}))
    assert codes == {0: 0, 1: 7, 2: 0}
    assert [(tmp_path / 'logs' / f'{n}').read_text() for n in range(3)] == ['one\n', 'two\n', 'here\n']


def test_jobs_run_in_order_with_one_slot(tmp_path: Path) -> None:
    log, events = tmp_path / 'log', list[str]()

    def begin(number: int) -> Job:
        events.append(f'begin {number}')
        return shell(f'echo {number}', log)

    Pool([{}]).run(3, begin, lambda number, *_: events.append(f'end {number}'))
    assert log.read_text() == '0\n1\n2\n'
    assert events == [f'{event} {number}' for number in range(3) for event in ('begin', 'end')]


def test_no_slot_is_used_by_two_jobs_at_a_time(tmp_path: Path) -> None:
    slots = [{'SLOT': str(i)} for i in range(3)]
    text = 'mkdir {0}/$SLOT && sleep 0.05 && rmdir {0}/$SLOT'.format(tmp_path / 'slots')
    (tmp_path / 'slots').mkdir()
    codes: list[int] = []
    Pool(slots).run(9, lambda i: shell(text, tmp_path / f'log{i}'), lambda number, code, seconds: codes.append(code))
    assert codes == [0] * 9


@pytest.mark.parametrize('program', [HOLD_OPEN, STUBBORN])
def test_an_interruption_ends_a_job_and_its_children(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_pool, 'PATIENCE_S', 0.3)
    fifo, reader = open_fifo(tmp_path)
    begun, ended = list[int](), list[int]()

    def begin(number: int) -> Job:
        begun.append(number)
        if number == 1:
            wait_for_start(reader)
            raise KeyboardInterrupt
        return shell(program.format(fifo=fifo), tmp_path / 'log')

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        Pool([{}, {}]).run(3, begin, lambda number, *_: ended.append(number))
    assert time.monotonic() - started < 20, 'the pool waited for the end of the job'
    require_end(reader)
    assert begun == [0, 1] and ended == []


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_a_job_and_its_children(number: signal.Signals, tmp_path: Path) -> None:
    fifo, reader = open_fifo(tmp_path)
    program = (
        'import signal, sys\n'
        'from pathlib import Path\n'
        'from swin_backbone.ablations.process_pool import Job, Pool\n'
        'signal.signal(signal.SIGINT, signal.default_int_handler)\n'  # a background job would ignore it
        'signal.signal(signal.SIGHUP, signal.SIG_DFL)\n'  # as would one under nohup
        "job = Job(['sh', '-c', sys.argv[1]], Path('/dev/null'))\n"
        'try:\n'
        '    Pool([{}]).run(2, lambda i: job, print)\n'
        'except KeyboardInterrupt:\n'
        '    raise SystemExit(130)\n'
    )
    process = subprocess.Popen([sys.executable, '-c', program, HOLD_OPEN.format(fifo=fifo)], stdout=subprocess.PIPE)
    try:
        wait_for_start(reader)
        process.send_signal(number)
        out, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130 and out == b''
    require_end(reader)


def test_handlers_are_restored_and_ignored_signals_stay_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupt_on_signals():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, 'as nohup wants'
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_error_in_a_callback_ends_all_processes(tmp_path: Path) -> None:
    fifo, reader = open_fifo(tmp_path)

    def begin(number: int) -> Job:
        return shell(HOLD_OPEN.format(fifo=fifo) if number == 0 else 'true', tmp_path / 'log')

    def end(number: int, code: int, seconds: float) -> None:
        wait_for_start(reader)
        raise OSError('disk full')

    with pytest.raises(OSError, match='disk full'):
        Pool([{}, {}]).run(2, begin, end)
    require_end(reader)


def test_gpus_are_divided_among_jobs() -> None:
    slots = make_slots(Launch(processes=2, jobs=2), ['0', '1', '4', '5', '6'])
    assert slots == [{'CUDA_VISIBLE_DEVICES': '0,1'}, {'CUDA_VISIBLE_DEVICES': '4,5'}]
    with pytest.raises(InputError, match='need 4 GPUs, 3 are available'):
        make_slots(Launch(processes=2, jobs=2), ['0', '1', '2'])


def test_cpu_cores_are_divided_among_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, 'cpu_count', lambda: 8)
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    assert make_slots(Launch(jobs=2), []) == [{'OMP_NUM_THREADS': '4'}] * 2
    assert make_slots(Launch(), []) == [{}]
    monkeypatch.setenv('OMP_NUM_THREADS', '3')
    assert make_slots(Launch(jobs=2), []) == [{}, {}]
