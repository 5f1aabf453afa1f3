"""A few processes at a time, each with its output in a file; an interruption ends them all."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swin_backbone.errors import InputError

PAUSE_S = 0.2
PATIENCE_S = 20.0
"""How long processes that are asked to end may take."""


@dataclass(frozen=True)
class Job:
    """A process to run.

    Attributes:
        command: program and arguments.
        log: gets everything it prints, after what is there already.
    """

    command: Sequence[str]
    log: Path


def run_pool(
    count: int,
    slots: Sequence[Mapping[str, str]],
    begin: Callable[[int], Job],
    end: Callable[[int, int, float], None],
) -> None:
    """Run jobs 0 to ``count - 1`` in order, as many at a time as there are ``slots``.

    Args:
        count: how many.
        slots: for each process that may run at a time, what it has in its environment beside ours.
        begin: says what to run, right before it starts.
        end: called with number, exit code and seconds of a job that has ended.

    Raises:
        KeyboardInterrupt: the user or the system asked for an end; no process is left behind.
    """
    waiting = list(range(count))
    free = list(range(len(slots)))
    running: dict[int, tuple[subprocess.Popen[bytes], int, float]] = {}
    with end_on_signals():
        try:
            while waiting or running:
                while waiting and free:
                    number, slot = waiting.pop(0), free.pop(0)
                    running[number] = start(begin(number), slots[slot]), slot, time.monotonic()
                time.sleep(PAUSE_S)
                for number in [number for number, (process, _, _) in running.items() if process.poll() is not None]:
                    process, slot, started = running.pop(number)
                    free.append(slot)
                    end(number, process.returncode, time.monotonic() - started)
        finally:
            stop([process for process, _, _ in running.values()])


def start(job: Job, environment: Mapping[str, str]) -> 'subprocess.Popen[bytes]':
    """Start a job in a process group of its own: who interrupts us interrupts it through us, and once."""
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open('ab') as log:
        return subprocess.Popen(
            job.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            start_new_session=True,
        )


def stop(processes: Sequence['subprocess.Popen[bytes]']) -> None:
    """End processes with all that they have started, and kill what does not end."""
    for process in processes:
        # Not SIGINT: what a shell has put into the background ignores it.
        signal_group(process, signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE_S
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            pass
        finally:
            # Data loaders may outlive the process that started them.
            signal_group(process, signal.SIGKILL)
            process.wait()


def signal_group(process: 'subprocess.Popen[bytes]', number: int) -> None:
    """Send a signal to a process and to all that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


@contextmanager
def end_on_signals() -> Iterator[None]:
    """Treat what a batch system or a closed terminal sends as Ctrl-C, so that no process is left behind."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def make_slots(jobs: int, processes: int, devices: Sequence[str]) -> list[dict[str, str]]:
    """The environments of ``jobs`` runs at a time.

    Args:
        jobs: how many.
        processes: GPUs of each, where there are any.
        devices: the GPUs that may be used, as ``CUDA_VISIBLE_DEVICES`` names them; they are dealt out in order. Without
            any, the cores are shared out.

    Raises:
        InputError: there are GPUs, and too few of them.
    """
    if devices and len(devices) < jobs * processes:
        raise InputError(
            f'{jobs} runs at a time with {processes} GPUs each need {jobs * processes} GPUs, {len(devices)} are there: '
            'lower --jobs or --gpus.'
        )
    if devices:
        shares = [devices[i * processes : (i + 1) * processes] for i in range(jobs)]
        return [{'CUDA_VISIBLE_DEVICES': ','.join(share)} for share in shares]
    if jobs * processes == 1 or 'OMP_NUM_THREADS' in os.environ:
        return [{} for _ in range(jobs)]
    threads = max(1, (os.cpu_count() or 1) // (jobs * processes))
    return [{'OMP_NUM_THREADS': str(threads)} for _ in range(jobs)]
