"""A pool of concurrent processes, which are started in order and all ended on an interruption."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swin_backbone.errors import InputError

PATIENCE_S = 20.0
"""Seconds between SIGTERM and SIGKILL."""


@dataclass(frozen=True)
class Launch:
    """How runs are started.

    Attributes:
        launcher: mmengine's launcher: none, pytorch, slurm or mpi.
        processes: number of processes of each run.
        jobs: number of concurrent runs.
    """

    launcher: str = 'none'
    processes: int = 1
    jobs: int = 1


@dataclass(frozen=True)
class Job:
    """A process to run.

    Attributes:
        command: program and arguments.
        log: file to which its output is appended.
    """

    command: Sequence[str]
    log: Path


class Pool:
    """A pool that runs jobs in order, one per slot at a time.

    Args:
        slots: for each concurrent job, environment variables in addition to those of this process.
    """

    def __init__(self, slots: Sequence[Mapping[str, str]]) -> None:
        self.free = list(slots)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.stopped = False
        self.lock = threading.Lock()

    def run(self, count: int, begin: Callable[[int], Job], end: Callable[[int, int, float], None]) -> None:
        """Run jobs 0 to ``count - 1``.

        Args:
            count: number of jobs.
            begin: called right before a job starts; returns it.
            end: called with number, exit code and seconds of a finished job; calls of ``begin`` and ``end`` never
                overlap.

        Raises:
            KeyboardInterrupt: on Ctrl-C, SIGTERM or SIGHUP, after all processes have been ended.
        """
        with interrupt_on_signals(), ThreadPoolExecutor(len(self.free)) as executor:
            try:
                for future in as_completed([executor.submit(self.work, i, begin, end) for i in range(count)]):
                    future.result()
            except BaseException:
                self.stop()
                raise

    def work(self, number: int, begin: Callable[[int], Job], end: Callable[[int, int, float], None]) -> None:
        """Run one job in a worker thread, where no signal handler can interrupt the registration of its process."""
        try:
            with self.lock:
                if self.stopped:
                    return
                job, slot, started = begin(number), self.free.pop(0), time.monotonic()
                process = start_process(job, slot)
                self.processes.append(process)
            if self.stopped:
                signal_group(process, signal.SIGKILL)
            code = process.wait()
            with self.lock:
                if not self.stopped:
                    self.processes.remove(process)
                    self.free.append(slot)
                    end(number, code, time.monotonic() - started)
        except BaseException:
            self.stopped = True
            raise

    def stop(self) -> None:
        """Start no more jobs; end the running processes and their children, and kill those that do not end."""
        self.stopped = True
        processes = list(self.processes)
        try:
            for process in processes:
                # Not SIGINT, which is ignored by background processes of a shell.
                signal_group(process, signal.SIGTERM)
            deadline = time.monotonic() + PATIENCE_S
            for process in processes:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - time.monotonic()))
        finally:
            for process in processes:
                # Data loader workers may outlive the process that started them.
                signal_group(process, signal.SIGKILL)


def start_process(job: Job, environment: Mapping[str, str]) -> 'subprocess.Popen[bytes]':
    """Start a job in its own process group, so that only :meth:`Pool.stop` sends it signals on Ctrl-C."""
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


def signal_group(process: 'subprocess.Popen[bytes]', number: int) -> None:
    """Send a signal to a process and its children."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


@contextmanager
def interrupt_on_signals() -> Iterator[None]:
    """Treat SIGTERM (sent by batch systems) and SIGHUP (sent by a closed terminal) like Ctrl-C."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    # Signals that are ignored, for example by `nohup`, remain ignored.
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def make_slots(launch: Launch, devices: Sequence[str]) -> list[dict[str, str]]:
    """Divide the GPUs, or the CPU cores if there are none, among concurrent runs; return their environment variables.

    Args:
        launch: how runs are started.
        devices: the available GPUs, named as in ``CUDA_VISIBLE_DEVICES``.

    Raises:
        InputError: if there are GPUs, but too few.
    """
    jobs, processes = launch.jobs, launch.processes
    if devices and len(devices) < jobs * processes:
        raise InputError(
            f'{jobs} concurrent runs with {processes} GPUs each need {jobs * processes} GPUs, {len(devices)} are '
            'available: lower --jobs or --gpus.'
        )
    if devices:
        shares = [devices[i * processes : (i + 1) * processes] for i in range(jobs)]
        return [{'CUDA_VISIBLE_DEVICES': ','.join(share)} for share in shares]
    if jobs * processes == 1 or 'OMP_NUM_THREADS' in os.environ:
        return [{} for _ in range(jobs)]
    threads = max(1, (os.cpu_count() or 1) // (jobs * processes))
    return [{'OMP_NUM_THREADS': str(threads)} for _ in range(jobs)]


def visible_devices() -> list[str]:
    """Return the available GPUs, named as in ``CUDA_VISIBLE_DEVICES``."""
    import torch

    named, count = os.environ.get('CUDA_VISIBLE_DEVICES'), torch.cuda.device_count()
    return named.split(',') if named and count else [str(number) for number in range(count)]
