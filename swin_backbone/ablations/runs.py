"""How far a run of an ablation has come, and the command that goes on with it."""

import json
import sys
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from mmengine.config import Config

from swin_backbone.ablations.plan import Run, few

CONSOLE = 'console.log'


class State(Enum):
    """How far a run has come; the value is what tables show."""

    NEW = 'not run'
    OTHER = 'made with other options'
    INTERRUPTED = 'interrupted'
    UNEVALUATED = 'trained, not evaluated'
    FINISHED = 'finished'
    RUNNING = 'running'
    FAILED = 'failed'


@dataclass(frozen=True)
class Progress:
    """State of a run with what it left.

    Attributes:
        state: how far it is.
        summary: what the run wrote about itself, if it is finished.
        remark: for a message, why it is in this state.
        checkpoint: the newest one, if there is any.
    """

    state: State
    summary: dict[str, Any] | None = None
    remark: str = ''
    checkpoint: Path | None = None


def progress(run: Run, metrics: Collection[str]) -> Progress:
    """Look into the folder of a run.

    Args:
        run: which one.
        metrics: what a finished run's summary must hold.
    """
    summary_file = run.folder / 'summary.json'
    changed = run.differences()
    if changed:
        return Progress(State.OTHER, remark=few(changed))
    if changed is None:
        strange = summary_file.is_file() or any(run.folder.glob('*.pth'))
        return Progress(State.OTHER, remark='nothing says how it was made') if strange else Progress(State.NEW)
    remark = ''
    if summary_file.is_file():
        summary = json.loads(summary_file.read_text())
        missing = [name for name in metrics if name not in summary]
        if not missing:
            return Progress(State.FINISHED, summary)
        remark = f'its summary has no {", ".join(missing)}'
    checkpoint = newest_checkpoint(run.folder)
    if checkpoint is None:
        return Progress(State.NEW, remark=remark)
    # Training on from its end would evaluate nothing.
    trained = checkpoint.stem == last_name(run.config)
    return Progress(State.UNEVALUATED if trained else State.INTERRUPTED, None, remark, checkpoint)


def newest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint that a run would go on from, wherever the folder has been moved to."""
    pointer = folder / 'last_checkpoint'
    if not pointer.is_file():
        return None
    checkpoint = folder / Path(pointer.read_text().strip()).name
    return checkpoint if checkpoint.is_file() else None


def last_name(config: Config) -> str:
    """What the checkpoint at the end of the training is called."""
    limits = config.train_cfg
    return f'epoch_{limits.max_epochs}' if 'max_epochs' in limits else f'iter_{limits.max_iters}'


def command(run: Run, checkpoint: Path | None, trained: bool, launcher: str, processes: int) -> list[str]:
    """The command line that trains and evaluates a run, or goes on with it.

    Args:
        run: which one; its config is in its folder.
        checkpoint: the newest one, if there is any.
        trained: nothing but the evaluation is left to do.
        launcher: of mmengine: none, pytorch, slurm or mpi.
        processes: how many of them, with a launcher.
    """
    starts = {
        'none': [sys.executable],
        'pytorch': [sys.executable, '-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={processes}'],
        'slurm': ['srun', f'--ntasks={processes}', sys.executable],
        'mpi': ['mpirun', '-n', str(processes), sys.executable],
    }
    if trained:
        arguments = ['test', str(run.config_file), str(checkpoint)]
    else:
        # Without a checkpoint in the work dir this begins at the beginning.
        arguments = ['train', str(run.config_file), '--resume', *([str(checkpoint)] * bool(checkpoint))]
    return [
        *starts[launcher],
        '-m',
        'swin_backbone.cli',
        *arguments,
        '--work-dir',
        str(run.folder),
        '--launcher',
        launcher,
    ]
