"""Memory, open files and worker processes during a long training with images of varying size."""

import gc
import multiprocessing
import os
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from swin_backbone import SwinTransformer
from swin_backbone.attention.window_plan import CONSTANTS
from swin_backbone.benchmark.timing import resident
from swin_backbone.errors import InputError
from swin_backbone.evaluation.style import LIGHT, new_figure, render
from swin_backbone.evaluation.tables import markdown_table

SPAN = 50
"""Number of iterations at the start and at the end that are compared."""

OPEN_FILES = Path('/proc/self/fd')


@dataclass(frozen=True)
class Usage:
    """Resources of this process after an iteration.

    Attributes:
        memory: bytes allocated on the GPU, or resident bytes without a GPU.
        masks: bytes of the cache of attention masks and indices, included in ``memory``.
        files: open file handles.
        workers: child processes, such as those of data loaders.
    """

    memory: int
    masks: int
    files: int
    workers: int


def device() -> str:
    """Return the device for training."""
    return 'cuda' if torch.cuda.is_available() else 'cpu'


def usage() -> Usage:
    """Measure the resources of this process."""
    memory = torch.cuda.memory_allocated() if device() == 'cuda' else resident('VmRSS')
    return Usage(memory, CONSTANTS.cached_bytes, len(os.listdir(OPEN_FILES)), len(multiprocessing.active_children()))


def check_platform() -> None:
    """Raise InputError if the system does not report the memory of a process."""
    if not OPEN_FILES.is_dir():
        raise InputError('memory and open files of a process are read from /proc, which exists only on Linux.')


def train_backbone(variant: str, iterations: int, sides: tuple[int, int]) -> list[Usage]:
    """Train a backbone on noise images, whose sides are random numbers of pixels between those of ``sides``."""
    draw = random.Random(0)
    model = SwinTransformer(variant).to(device())
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    found = []
    for _ in range(iterations):
        image = torch.randn(1, 3, draw.randint(*sides), draw.randint(*sides), device=device())
        optimizer.zero_grad()
        torch.stack([features.square().mean() for features in model(image)]).sum().backward()
        optimizer.step()
        found.append(usage())
    return found


def train_config(name: str, data_root: str | None, workers: int, iterations: int) -> list[Usage]:
    """Train the model of a config with its Runner; the last element is measured after the end of the run."""
    from mmengine.hooks import Hook

    from swin_backbone.engine import config as change
    from swin_backbone.engine.run_options import set_workers, skip_validation
    from swin_backbone.engine.train import build_runner

    found: list[Usage] = []

    class Recorder(Hook):
        def after_train_iter(self, *_: Any, **__: Any) -> None:
            found.append(usage())

    config = change.load_config(name)
    if data_root is not None:
        change.move_data_root(config, data_root)
    skip_validation(config)
    change.check_data(config, ('train_dataloader',))
    change.use_own_types(config)
    change.set_precision(config, False)
    change.set_weights(config, 'none')
    change.limit_iterations(config, iterations)
    set_workers(config, workers)
    with tempfile.TemporaryDirectory() as folder:
        config.work_dir = folder
        runner = build_runner(config)
        runner.register_hook(Recorder())
        runner.train()
        del runner
        gc.collect()  # the runner and its loops are a reference cycle
    return [*found, usage()]


def as_table(found: Sequence[Usage]) -> str:
    """Format means over the first and the last iterations, and the largest values, as a Markdown table."""
    rows = []
    for title, name, unit in (
        ('memory, MiB', 'memory', 2**20),
        ('cached masks in it, MiB', 'masks', 2**20),
        ('open files', 'files', 1),
        ('workers', 'workers', 1),
    ):
        values = [getattr(sample, name) / unit for sample in found]
        numbers = mean(values[:SPAN]), mean(values[-SPAN:]), max(values)
        rows.append([title, *(f'{number:.1f}' for number in numbers)])
    return markdown_table(['', f'first {SPAN} iterations', f'last {SPAN}', 'largest'], rows, left=(0,))


def plot(found: Sequence[Usage]) -> bytes:
    """Plot memory, and open files and workers, over the iterations, as PNG."""

    def build(_: Any) -> Any:
        figure = new_figure(9.1, 3.4)
        memory, handles = figure.subplots(1, 2)
        memory.plot([sample.memory / 2**20 for sample in found], label='memory')
        memory.plot([sample.masks / 2**20 for sample in found], label='cached masks in it')
        handles.plot([sample.files for sample in found], label='open files')
        handles.plot([sample.workers for sample in found], label='workers')
        for axes, unit in ((memory, 'MiB'), (handles, 'count')):
            axes.set(xlabel='iteration', ylabel=unit)
            axes.set_ylim(bottom=0)
            axes.grid(True)
            axes.legend()
        return figure

    return render(build, LIGHT)
