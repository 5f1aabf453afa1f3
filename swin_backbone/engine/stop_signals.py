"""Stop a training between two iterations when a batch system asks for it, and keep signals away from data loaders."""

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
"""What ends a job, and what Slurm can send ahead of that."""

KEPT_FROM_WORKERS = {signal.SIGINT, *STOPPING}


class StopHook(Hook):
    """Saves the run and ends it after the iteration in which a signal of :data:`STOPPING` has come."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Receive the signals; without this, they end the process at once."""
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
        """Remember a signal."""
        self.received = signal.Signals(number)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Stop, unless gradients are being accumulated, which no checkpoint holds.

        Raises:
            RunStopped: a signal has come, to any process.
        """
        if self.asked(runner) and has_stepped(runner.optim_wrapper):
            self.stop(runner, runner.iter + 1)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Stop within an evaluation, which is then repeated; several processes finish it first.

        Raises:
            RunStopped: a signal has come.
        """
        if self.received is not None and runner.world_size == 1:
            self.stop(runner, runner.iter)

    def asked(self, runner: Runner) -> bool:
        """Whether any process has received a signal."""
        if runner.world_size == 1:
            return self.received is not None
        found = torch.tensor(int(self.received or 0), device=get_device())
        dist.all_reduce(found, 'max')
        self.received = signal.Signals(int(found)) if found else None
        return self.received is not None

    def stop(self, runner: Runner, iteration: int) -> None:
        """Save and end.

        Raises:
            RunStopped: always.
        """
        path = save_interrupted(runner, iteration)
        name = self.received.name if self.received else 'a signal'
        raise RunStopped(f'stopped by {name} after iteration {iteration}, saved in {path}: go on with --resume.')


def has_stepped(optim_wrapper: Any) -> bool:
    """Whether an optimizer wrapper has used all gradients."""
    return not hasattr(optim_wrapper, 'should_update') or bool(optim_wrapper.should_update())


def shield_workers(loader: DataLoader[Any]) -> None:
    """Let the workers of a loader outlive signals that are sent to all processes of a job or a terminal.

    The main process decides when to end, and needs its workers until then.
    """
    loader.worker_init_fn = partial(shield, os.getpid(), loader.worker_init_fn)


def shield(parent: int, prepare: Callable[[int], None] | None, worker: int) -> None:
    """Prepare a worker process; it still ends when its parent asks for it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, KEPT_FROM_WORKERS)
    threading.Thread(target=obey, args=(parent,), daemon=True).start()
    if prepare is not None:
        prepare(worker)


def obey(parent: int) -> None:
    """End this process when a signal comes from its parent."""
    while signal.sigwaitinfo(KEPT_FROM_WORKERS).si_pid != parent:
        pass
    os._exit(0)
