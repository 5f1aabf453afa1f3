"""Ablations as sweeps: make what is missing, keep what is there, and write the table after every run."""

import os
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swin_backbone.ablations.pages import write_tables
from swin_backbone.ablations.plan import FROM_SCRATCH, Plan, Run, starting_weights
from swin_backbone.ablations.pool import Job, make_slots, run_pool
from swin_backbone.ablations.results import Outcome
from swin_backbone.ablations.runs import CONSOLE, Progress, State, command, progress
from swin_backbone.benchmark import timing as speed
from swin_backbone.errors import InputError

Say = Callable[[str], None]
DEMO = 'other data, a small network and a short schedule: compare signs and order, not values'


@dataclass(frozen=True)
class Means:
    """How runs are started.

    Attributes:
        launcher: of mmengine.
        processes: with a launcher, how many a run has.
        jobs: runs at a time.
    """

    launcher: str = 'none'
    processes: int = 1
    jobs: int = 1


class Sweep:
    """The runs of a plan, and the tables over them.

    Args:
        plan: what it is about.
        rows: the names of the runs to make; all by default. The tables show what is there of the others, too.
        say: gets a line for every event.
    """

    def __init__(self, plan: Plan, rows: Sequence[str] | None, say: Say) -> None:
        self.plan = plan
        self.say = say
        self.asked = plan.runs(rows)
        self.others = [run for run in plan.runs() if run.name not in {asked.name for asked in self.asked}]
        self.weights: dict[str, str] = {}
        self.live: dict[str, Progress] = {}

    def check(self) -> None:
        """Build every backbone with its weights, before days are spent on the first of them.

        Raises:
            InputError: a backbone or its weights do not work.
        """
        for run in self.asked:
            if run.row.run not in self.weights:
                self.weights[run.row.run] = starting_weights(run)

    def clear(self, redo: bool) -> None:
        """Delete the folders of runs that were made with other options.

        Raises:
            InputError: there is one, and ``redo`` is not wanted.
        """
        for run in self.asked:
            found = self.look(run)
            if found.state is State.OTHER and not redo:
                raise InputError(
                    f'{run.folder} was made with other options ({found.remark}): choose another --work-dir, or add '
                    '--redo to delete it and train anew.'
                )
            if found.state is State.OTHER:
                self.say(f'{run.name}: deleting {run.folder}, made with other options ({found.remark})')
                shutil.rmtree(run.folder)

    def look(self, run: Run) -> Progress:
        """How far a run is."""
        return self.live.get(run.name) or progress(run, self.plan.task.metrics)

    def commands(self, means: Means) -> list[str]:
        """Put every config in its place; the command lines of the runs that are not finished."""
        lines = []
        for run in self.asked:
            found = self.look(run)
            if found.state is not State.FINISHED:
                lines.append(shlex.join(self.prepare(run, found, means)))
        return lines

    def prepare(self, run: Run, found: Progress, means: Means) -> list[str]:
        """Write the config of a run; the command that makes it."""
        run.write_config()
        if found.state is not State.FINISHED:
            # What is left of an earlier attempt must not pass for this one's.
            (run.folder / 'summary.json').unlink(missing_ok=True)
        trained = found.state is State.UNEVALUATED
        return command(run, found.checkpoint, trained, means.launcher, means.processes)

    def make(self, means: Means) -> list[str]:
        """Make the runs that are missing; returns a sentence for each that failed.

        Raises:
            KeyboardInterrupt: the user wants to go on later.
        """
        slots = make_slots(means.jobs, means.processes, visible_devices())
        todo = [run for run in self.asked if self.look(run).state is not State.FINISHED]
        if len(todo) < len(self.asked):
            self.say(f'{len(self.asked) - len(todo)} of {len(self.asked)} runs are finished already and are kept')
        failures: list[str] = []
        durations: list[float] = []

        def begin(number: int) -> Job:
            run, found = todo[number], self.look(todo[number])
            origin = f' from {found.checkpoint.name}' if found.checkpoint else ''
            self.say(f'{run.name} starts{origin}, {number + 1} of {len(todo)}; its output: {run.folder / CONSOLE}')
            self.live[run.name] = Progress(State.RUNNING)
            return Job(self.prepare(run, found, means), run.folder / CONSOLE)

        def end(number: int, code: int, seconds: float) -> None:
            failure = self.finish(todo[number], code, seconds)
            failures.extend([failure] if failure else [])
            durations.append(seconds)
            self.write()
            left = len(todo) - len(durations)
            if left:
                self.say(f'{left} of {len(todo)} runs are left, {time_left(durations, left, means.jobs)}')

        try:
            run_pool(len(todo), slots, begin, end)
        except KeyboardInterrupt:
            self.live = {name: found for name, found in self.live.items() if found.state is not State.RUNNING}
            self.write()
            self.say('interrupted: the same command again goes on from here')
            raise
        if not todo:
            self.write()
        return failures

    def finish(self, run: Run, code: int, seconds: float) -> str:
        """Look at what a run has left; a sentence if it failed."""
        del self.live[run.name]
        found = self.look(run)
        if code == 0 and found.state is State.FINISHED:
            self.say(f'{run.name}: {self.quote(found)} in {seconds:.0f} s')
            return ''
        why = f'exit code {code}' if code else found.remark or 'it has left no summary'
        self.live[run.name] = Progress(State.FAILED, remark=f'{why}, see {run.folder / CONSOLE}')
        self.say(f'{run.name} failed: {why}, see {run.folder / CONSOLE}')
        return f'{run.name} failed: {why}, see {run.folder / CONSOLE}'

    def quote(self, found: Progress) -> str:
        """The figures of a finished run in one line."""
        figures = found.summary or {}
        return ', '.join(f'{label} {100 * figures[name]:.2f}' for name, label in self.plan.task.metrics.items())

    def outcomes(self) -> list[Outcome]:
        """All runs of the table as far as they are."""
        found = [(run, self.look(run)) for run in (*self.asked, *self.others)]
        return [
            Outcome(run.row.run, run.seed, now.state.value, now.summary or {}, str(run.folder), now.remark)
            for run, now in found
        ]

    def write(self) -> Path:
        """Write the tables; returns their folder."""
        plan = self.plan
        write_tables(plan.report_dir, plan.table, plan.task, self.outcomes(), self.facts())
        return plan.report_dir

    def facts(self) -> dict[str, Any]:
        """What a reader of the tables must know."""
        plan, machine = self.plan, speed.environment('cuda' if visible_devices() else 'cpu')
        config, limits = plan.base, plan.base.train_cfg
        epochs = limits.get('max_epochs')
        data = config.train_dataloader.dataset
        return {
            'config': config.filename,
            'data': data.get('data_root') or config.get('data_root', 'see the config'),
            'schedule': f'{epochs} epochs' if epochs else f'{limits.max_iters} iterations',
            'batch': f'{config.train_dataloader.batch_size} pictures a process',
            'seeds': ', '.join(map(str, plan.seeds)),
            **weights_facts(self.weights, plan.weights),
            'the paper': plan.task.remark,
            **({'the demo': DEMO} if plan.demo else {}),
            'machine': f'{machine["hardware"]}, {machine["cores"]} cores',
            'versions': ', '.join(f'{name} {version}' for name, version in machine['versions'].items()),
            'command': machine['command'],
        }


def time_left(durations: Sequence[float], left: int, jobs: int) -> str:
    """About how long ``left`` runs take, ``jobs`` at a time, if they take as long as those before."""
    minutes = sum(durations) / len(durations) * -(-left // jobs) / 60
    return f'for about {minutes / 60:.1f} h' if minutes >= 120 else f'for about {minutes:.0f} min'


def weights_facts(weights: dict[str, str], source: str | None) -> dict[str, str]:
    """What the backbones start from, said once where it is the same for all.

    Args:
        weights: what each row starts from.
        source: what was asked for.
    """
    texts = set(weights.values())
    if texts <= {FROM_SCRATCH}:
        return {'weights': 'every row from scratch'} if texts else {}
    own = source is not None and '{row}' in source
    caution = 'a file for each row' if own else 'the same for every row, where the paper pre-trained each row as itself'
    return {'weights': caution, **{f'weights, {run}': text for run, text in weights.items()}}


def visible_devices() -> list[str]:
    """The GPUs that runs may be given, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    named, count = os.environ.get('CUDA_VISIBLE_DEVICES'), torch.cuda.device_count()
    return named.split(',') if named and count else [str(number) for number in range(count)]
