"""Kill training runs at random moments, resume them, and compare them bit for bit with uninterrupted runs.

    python -m tests.engine.kill_table [--moments N] [--seed N] [--cases NAME ...]

Every run is a fork of this process, which has imported everything, and takes seconds. Half of the moments are during an
iteration or a following evaluation, the others during the writing of a checkpoint.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from mmengine.config import config
from mmengine.runner import runner

from swin_backbone import files
from swin_backbone.cli import outcome
from swin_backbone.cli import train as command
from swin_backbone.datasets.shapes import ShapesSpec, write_shapes
from swin_backbone.engine import random_numbers
from tests.conftest import REPOSITORY

BACKBONE = "dict(_delete_=True, type='swin_backbone.SwinTransformer', variant=None, embed_dim=16, depths=(1, 1, 1, 1), "
BACKBONE += 'num_heads=(1, 1, 1, 1), window_size=4, drop_path_rate=0.2)'
HEADS = {
    'detection': 'neck=dict(in_channels=[16, 32, 64, 128])',
    'segmentation': 'decode_head=dict(in_channels=[16, 32, 64, 128]), auxiliary_head=dict(in_channels=64)',
}
DEMOS = {'detection': 'cascade_swin_demo', 'segmentation': 'upernet_swin_demo'}
CONFIG = """
_base_ = '{base}'
model = dict(backbone={backbone}, {heads})
train_cfg = dict(_delete_=True, {loop})
default_hooks = dict(checkpoint=dict(interval={interval}, by_epoch={by_epoch}), logger=dict(interval=1))
log_processor = dict(by_epoch={by_epoch})
train_dataloader = dict(
    batch_size=2, num_workers=2, persistent_workers=True, sampler=dict(type='{sampler}', shuffle=True))
val_dataloader = dict(num_workers=1, persistent_workers=True)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=5),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=5, end=12, T_max=7),
]
custom_hooks = [dict(type='EMAHook', momentum=0.1)]
"""
OPTIONS = {
    'epochs': dict(
        loop='by_epoch=True, max_epochs=3, val_interval=2', interval=1, by_epoch=True, sampler='DefaultSampler'
    ),
    'iterations': dict(
        loop="type='IterBasedTrainLoop', max_iters=12, val_interval=8",
        interval=3,
        by_epoch=False,
        sampler='InfiniteSampler',
    ),
}
CASES = tuple(f'{task} {loop}' for task in DEMOS for loop in OPTIONS)
MOMENTS_OF_WRITING = ('first bytes', 'half a file', 'complete, not renamed', 'renamed, not pointed to')


def write_config(case: str, folder: Path) -> Path:
    """Write a small demo config: 4 iterations per epoch, 12 in total, and a checkpoint every 3 or 4 iterations."""
    task, loop = case.split()
    base = REPOSITORY / 'configs' / task / f'{DEMOS[task]}.py'
    path = folder / f'{task}_{loop}.py'
    path.write_text(CONFIG.format(base=base, backbone=BACKBONE, heads=HEADS[task], **OPTIONS[loop]))
    return path


@dataclass(frozen=True)
class Moment:
    """The moment at which a run kills itself.

    Attributes:
        number: number of the iteration or checkpoint.
        seconds: time after the start of the iteration.
        writing: one of :data:`MOMENTS_OF_WRITING` for a checkpoint; '' for an iteration.
    """

    number: int
    seconds: float = 0.0
    writing: str = ''

    def __str__(self) -> str:
        where = f'checkpoint {self.number}' if self.writing else f'iteration {self.number}'
        return f'{where}: {self.writing}' if self.writing else f'{where} + {1000 * self.seconds:.0f} ms'


def run(arguments: Sequence[Any], log: Path, moment: Moment | None = None) -> int:
    """Run a training in a fork and return its exit code.

    Args:
        arguments: arguments of the command.
        log: file for its output.
        moment: the moment at which it kills itself.
    """
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.setsid()
    with log.open('ab') as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if moment and moment.writing:
        files.synchronize = WritingKiller(moment)  # type: ignore[assignment]
    elif moment:
        random_numbers.seed_step = timed(random_numbers.seed_step, moment)
    code = outcome(command.main, [str(argument) for argument in arguments])
    sys.stdout.flush()
    os._exit(code)


def kill() -> None:
    """Kill this process with SIGKILL."""
    os.kill(os.getpid(), signal.SIGKILL)


def timed(seed_step: Any, moment: Moment) -> Any:
    """Wrap ``seed_step``, which begins an iteration, to start a timer that kills the process."""

    def seed_and_wait(seed: int, rank: int, iteration: int) -> None:
        if iteration == moment.number:
            threading.Timer(moment.seconds, kill).start()
        seed_step(seed, rank, iteration)

    return seed_and_wait


class WritingKiller:
    """Kills this process while it writes a checkpoint. It is called when a file is complete and after its renaming."""

    def __init__(self, moment: Moment) -> None:
        self.moment, self.left = moment, moment.number

    def __call__(self, path: Path) -> None:
        renamed = path.is_dir() and any(path.glob('*.pth'))
        if not renamed and path.suffix != '.pth':
            return
        if renamed != (self.moment.writing == 'renamed, not pointed to'):
            return
        self.left -= 1
        if self.left:
            return
        if not renamed:
            size = path.stat().st_size
            os.truncate(path, {'first bytes': 100, 'half a file': size // 2}.get(self.moment.writing, size))
        kill()


def last_state(folder: Path) -> dict[str, Any]:
    """Return the weights, optimizer, schedules, losses and random state of the last checkpoint."""
    path = next(path for path in (folder / 'epoch_3.pth', folder / 'iter_12.pth') if path.is_file())
    content = torch.load(path, weights_only=False)
    losses = {
        name: history.data[0].tolist()
        for name, history in content['message_hub']['log_scalars'].items()
        if name.startswith('train/') and 'time' not in name and 'memory' not in name
    }
    names = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers', 'random_state')
    return {**{name: content[name] for name in names}, 'losses': losses, 'iter': content['meta']['iter']}


def differences(one: Any, other: Any, path: str = '') -> list[str]:
    """Return the paths at which two states are not bitwise equal."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [line for key in one for line in differences(one[key], other[key], f'{path}.{key}')]
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)) and len(one) == len(other):
        return [
            line for i, (a, b) in enumerate(zip(one, other, strict=True)) for line in differences(a, b, f'{path}[{i}]')
        ]
    equal = (
        torch.equal(one, other) if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor) else one == other
    )
    return [] if equal else [path]


class Table:
    """Uninterrupted reference runs, and the lines of the resumed runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / 'shapes'
        write_shapes(self.data, ShapesSpec(train_count=8, val_count=2))
        self.references: dict[str, dict[str, Any]] = {}

    def arguments(self, case: str, work_dir: Path, *more: str) -> list[Any]:
        """Return the command line of a run."""
        config = write_config(case, self.folder)
        options = ['--work-dir', work_dir, '--data-root', self.data, '--seed', 3, '--deterministic']
        return [config, *options, *more]

    def reference(self, case: str) -> dict[str, Any]:
        """Return the last state of an uninterrupted run."""
        if case not in self.references:
            work_dir = self.folder / f'{case} uninterrupted'.replace(' ', '_')
            log = self.folder / f'{work_dir.name}.log'
            code = run(self.arguments(case, work_dir), log)
            assert code == 0, log.read_text()[-3000:]
            self.references[case] = last_state(work_dir)
        return self.references[case]

    def kill_and_resume(self, case: str, name: str, moment: Moment) -> str:
        """Kill a run at a moment, resume it, compare it, and return a line of the table."""
        expected = self.reference(case)
        work_dir = self.folder / name
        log = self.folder / f'{name}.log'
        code = run(self.arguments(case, work_dir), log, moment)
        there = sorted(path.name for path in work_dir.glob('*.pth')) if work_dir.is_dir() else []
        began = time.monotonic()
        resumed = run(self.arguments(case, work_dir, '--resume'), log)
        seconds = time.monotonic() - began
        found = differences(expected, last_state(work_dir)) if resumed == 0 else [f'exit code {resumed}']
        verdict = 'bit-equal' if not found else f'DIFFERS: {found[:3]}'
        return f'| {case} | {moment} | {code} | {", ".join(there) or "none"} | {seconds:.1f} | {verdict} |'


def moments(count: int, choice: random.Random) -> list[Moment]:
    """Return random moments, alternately during an iteration and during the writing of a checkpoint."""
    found = []
    for number in range(count):
        if number % 2:
            found.append(Moment(choice.randint(1, 3), writing=choice.choice(MOMENTS_OF_WRITING)))
        else:
            found.append(Moment(choice.randint(2, 10), seconds=choice.uniform(0, 0.5)))
    return found


def main() -> None:
    """Print the table, and exit with code 1 if a run differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--moments', type=int, default=6, help='moments per case')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--cases', nargs='+', default=CASES)
    args = parser.parse_args()
    for name in ('mmdet.models', 'mmseg.models', 'swin_backbone.engine.train'):  # once, for all runs
        import_module(name)
    runner.collect_env, config.FormatCode = dict, lambda text, **options: (text, True)  # slow, and without effect
    choice, bad = random.Random(args.seed), 0
    with tempfile.TemporaryDirectory() as folder:
        table = Table(Path(folder))
        print('| case | killed at | exit code | checkpoints | seconds to the end | compared with the reference |')
        print('|--|--|--|--|--|--|')
        for case in args.cases:
            for number, moment in enumerate(moments(args.moments, choice)):
                line = table.kill_and_resume(case, f'{case}_{number}'.replace(' ', '_'), moment)
                bad += 'bit-equal' not in line
                print(line, flush=True)
    raise SystemExit(bool(bad))


if __name__ == '__main__':
    torch.set_num_threads(1)
    main()
