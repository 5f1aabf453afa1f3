"""Stopping of training between two iterations on signals of a batch system, and protection of data loader workers."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from mmengine import dist
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from swin_backbone.engine.run_checkpoints import save_interrupted
from swin_backbone.errors import RunStopped

STOPPING = (signal.SIGTERM, signal.SIGUSR1)
"""Signals that end a job (SIGTERM) or that Slurm can send before (SIGUSR1)."""

KEPT_FROM_WORKERS = {signal.SIGINT, *STOPPING}


class StopHook(Hook):
    """Saves the run and stops it after the iteration in which a signal of :data:`STOPPING` was received."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals inside the context; otherwise they end the process immediately."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.receive) for number in STOPPING}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def receive(self, number: int, frame: Any) -> None:
        """Record a signal."""
        self.received = signal.Signals(number)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Stop, unless gradients are being accumulated, which are not part of checkpoints.

        Raises:
            RunStopped: if any process received a signal.
        """
        if self.signal_received(runner) and has_stepped(runner.optim_wrapper):
            self.stop(runner, runner.iter + 1)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Stop during an evaluation, which is repeated after resuming. Runs with several processes finish it first.

        Raises:
            RunStopped: if a signal was received.
        """
        if self.received is not None and runner.world_size == 1:
            self.stop(runner, runner.iter)

    def signal_received(self, runner: Runner) -> bool:
        """Return whether any process received a signal."""
        if runner.world_size == 1:
            return self.received is not None
        found = torch.tensor(int(self.received or 0), device=get_device())
        dist.all_reduce(found, 'max')
        self.received = signal.Signals(int(found)) if found else None
        return self.received is not None

    def stop(self, runner: Runner, iteration: int) -> None:
        """Save the run and stop it.

        Raises:
            RunStopped: always.
        """
        path = save_interrupted(runner, iteration)
        name = self.received.name if self.received else 'a signal'
        raise RunStopped(f'stopped by {name} after iteration {iteration}, saved in {path}: continue with --resume.')


def has_stepped(optim_wrapper: Any) -> bool:
    """Return whether an optimizer wrapper has applied all accumulated gradients."""
    return not hasattr(optim_wrapper, 'should_update') or bool(optim_wrapper.should_update())


def shield_workers(loader: DataLoader[Any]) -> None:
    """Make the workers of a loader ignore signals that are sent to all processes of a job or terminal.

    The main process needs its workers until it stops.
    """
    loader.worker_init_fn = partial(shield, os.getpid(), loader.worker_init_fn)


def shield(parent: int, prepare: Callable[[int], None] | None, worker: int) -> None:
    """Initialise a worker process that handles signals of its parent only."""
    signal.pthread_sigmask(signal.SIG_BLOCK, KEPT_FROM_WORKERS)
    threading.Thread(target=exit_on_parent_signal, args=(parent,), daemon=True).start()
    if prepare is not None:
        prepare(worker)


def exit_on_parent_signal(parent: int) -> None:
    """Exit this process when a signal is received from its parent."""
    while signal.sigwaitinfo(KEPT_FROM_WORKERS).si_pid != parent:
        pass
    os._exit(0)
