"""Concurrent processes: in order, as many at a time as the machine has room for, and none left behind."""

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
"""Seconds that processes have to end after SIGTERM before they are killed."""


@dataclass(frozen=True)
class Launch:
    """How runs are started.

    Attributes:
        launcher: of mmengine: none, pytorch, slurm or mpi.
        processes: of each run, with a launcher.
        jobs: concurrent runs.
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
    """Runs jobs in order, as many at a time as there are slots.

    Args:
        slots: the environment variables of each process that may run at a time, in addition to ours.
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
            begin: returns a job right before it starts.
            end: called with number, exit code and seconds of a finished job; calls of ``begin`` and ``end`` never
                overlap.

        Raises:
            KeyboardInterrupt: after Ctrl-C, SIGTERM or SIGHUP; all processes have been ended.
        """
        with interrupt_on_signals(), ThreadPoolExecutor(len(self.free)) as executor:
            try:
                for future in as_completed([executor.submit(self.work, i, begin, end) for i in range(count)]):
                    future.result()
            except BaseException:
                self.stop()
                raise

    def work(self, number: int, begin: Callable[[int], Job], end: Callable[[int, int, float], None]) -> None:
        """Run one job in a worker thread, where no signal can interrupt between start and record of a process."""
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
        """Start no more jobs; end the running processes with all that they started, and kill what does not end."""
        self.stopped = True
        processes = list(self.processes)
        try:
            for process in processes:
                # Not SIGINT: what a shell started in the background ignores it.
                signal_group(process, signal.SIGTERM)
            deadline = time.monotonic() + PATIENCE_S
            for process in processes:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - time.monotonic()))
        finally:
            for process in processes:
                # Data loaders may outlive the process that started them.
                signal_group(process, signal.SIGKILL)


def start_process(job: Job, environment: Mapping[str, str]) -> 'subprocess.Popen[bytes]':
    """Start a job in its own process group: Ctrl-C reaches it once, through us."""
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
    """Send a signal to a process and to all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


@contextmanager
def interrupt_on_signals() -> Iterator[None]:
    """Treat the signals of a batch system and of a closed terminal like Ctrl-C."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    # Ignored signals stay ignored, as `nohup` wants.
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def make_slots(launch: Launch, devices: Sequence[str]) -> list[dict[str, str]]:
    """Divide the GPUs, or without any the CPU cores, among concurrent runs; return their environment variables.

    Args:
        launch: how runs are started.
        devices: the available GPUs, as ``CUDA_VISIBLE_DEVICES`` names them.

    Raises:
        InputError: there are GPUs, but too few.
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
    """The available GPUs, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    named, count = os.environ.get('CUDA_VISIBLE_DEVICES'), torch.cuda.device_count()
    return named.split(',') if named and count else [str(number) for number in range(count)]
