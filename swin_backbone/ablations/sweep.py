"""Ablation sweeps: start or resume the unfinished runs, keep the finished ones, and update the table after each run."""

import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from swin_backbone.ablations.pages import write_tables
from swin_backbone.ablations.process_pool import Job, Launch, Pool, make_slots, visible_devices
from swin_backbone.ablations.results import Outcome
from swin_backbone.ablations.runs import (
    FROM_SCRATCH,
    PRETRAINING_SEED,
    Plan,
    Progress,
    Run,
    State,
    starting_weights,
)
from swin_backbone.benchmark import timing
from swin_backbone.engine.lock import check_free, locked
from swin_backbone.errors import InputError

Say = Callable[[str], None]
DEMO = 'other data, a small network and a short schedule: compare signs and order, not values'


class Sweep:
    """The runs of a plan, and the tables of their scores.

    Args:
        plan: the plan with the runs.
        rows: names of the rows to run; all by default. The tables also include existing results of other rows.
        say: called with a line for every event.
    """

    def __init__(self, plan: Plan, rows: Sequence[str] | None, say: Say) -> None:
        self.plan = plan
        self.say = say
        self.selected = plan.runs(rows)
        self.others = [run for run in plan.runs() if run.name not in {selected.name for selected in self.selected}]
        self.weights: dict[str, str] = {}
        self.current: dict[str, Progress] = {}
        self.pretraining = Sweep(plan.pretraining, rows, say) if plan.pretraining else None

    def check(self) -> None:
        """Build every backbone with its weights, so that errors are found before the first run.

        Raises:
            InputError: if a backbone or its weights cannot be used.
        """
        if self.pretraining is not None:
            self.pretraining.check()
        for run in self.selected:
            if run.source is None and run.row.run not in self.weights and not self.is_waiting(run):
                self.weights[run.row.run] = starting_weights(run)

    def pretrained(self, run: Run) -> Progress | None:
        """Return the progress of the pre-training of a run; None if it has none."""
        if self.pretraining is None or self.plan.pretraining is None:
            return None
        return self.pretraining.progress_of(self.plan.pretraining.run(run.row, PRETRAINING_SEED))

    def is_waiting(self, run: Run) -> bool:
        """Whether the pre-training of a run is not finished."""
        found = self.pretrained(run)
        return found is not None and found.state is not State.FINISHED

    def clear(self, redo: bool) -> None:
        """Delete the folders of runs that were made with other options, or from weights that no longer exist.

        Raises:
            InputError: if there is such a folder, and ``redo`` is False or a process is using it.
        """
        if self.pretraining is not None:
            self.pretraining.clear(redo)
        for run in self.selected:
            found = self.progress_of(run)
            if self.is_waiting(run) and found.state is not State.NEW:
                found = Progress(State.OTHER, remark='its weights no longer exist')
            if found.state is not State.OTHER:
                continue
            if not redo:
                raise InputError(
                    f'{run.folder} was made with other options ({found.remark}): choose another --work-dir, or add '
                    '--redo to delete it and train again.'
                )
            check_free(run.folder)
            self.say(f'{run.name}: deleting {run.folder}, made with other options ({found.remark})')
            shutil.rmtree(run.folder)

    def progress_of(self, run: Run) -> Progress:
        """Return the progress of a run."""
        return self.current.get(run.name) or run.progress(self.plan.task.metrics)

    def commands(self, launch: Launch) -> list[str]:
        """Write the configs of the unfinished runs; return their command lines.

        Runs that test the network or start from the weights of an unfinished run are skipped.
        """
        lines = self.pretraining.commands(launch) if self.pretraining is not None else []
        return lines + [shlex.join(self.prepare(run, self.progress_of(run), launch)) for run in self.ready_runs()]

    def ready_runs(self) -> list[Run]:
        """Return the unfinished runs that do not depend on another unfinished run."""
        runs = [run for run in self.selected if run.source is None or run.tested_checkpoint is not None]
        return [run for run in runs if not self.is_waiting(run) and self.progress_of(run).state is not State.FINISHED]

    def prepare(self, run: Run, found: Progress, launch: Launch) -> list[str]:
        """Write the config of an unfinished run; return its command."""
        run.write_config()
        # Delete the summary of an earlier attempt, which would count as the result of this one.
        (run.folder / 'summary.json').unlink(missing_ok=True)
        return run.command(found, launch)

    def start(self, launch: Launch) -> list[str]:
        """Start or resume the unfinished runs; return a sentence for each that failed.

        Raises:
            InputError: if another process is using the work dir.
            KeyboardInterrupt: if the sweep is interrupted.
        """
        with locked(self.plan.work_dir):
            failures = []
            if self.pretraining is not None:
                failures = self.pretraining.work(launch)
                self.check()
            return failures + self.work(launch)

    def work(self, launch: Launch) -> list[str]:
        """Start or resume the unfinished runs; the work dir must be locked."""
        pool = Pool(make_slots(launch, visible_devices()))
        todo = [run for run in self.selected if self.progress_of(run).state is not State.FINISHED]
        if len(todo) < len(self.selected):
            self.say(f'{len(self.selected) - len(todo)} of {len(self.selected)} runs are already finished and are kept')
        failures: list[str] = []
        try:
            failures += [
                f'{run.name} was not started: its pre-training is not finished' for run in todo if self.is_waiting(run)
            ]
            todo = [run for run in todo if not self.is_waiting(run)]
            failures += self.run_all([run for run in todo if run.source is None], pool, launch)
            tests = [run for run in todo if run.source is not None]
            failures += [
                f'{run.name} was not tested: the run {run.row.source} with this seed is not finished; add it to --rows'
                for run in tests
                if run.tested_checkpoint is None
            ]
            failures += self.run_all([run for run in tests if run.tested_checkpoint is not None], pool, launch)
        except KeyboardInterrupt:
            self.current = {name: found for name, found in self.current.items() if found.state is not State.RUNNING}
            self.write()
            self.say('interrupted: repeat the command to continue')
            raise
        if not todo:
            self.write()
        return failures

    def run_all(self, todo: Sequence[Run], pool: Pool, launch: Launch) -> list[str]:
        """Run the given runs in order; return a sentence for each that failed."""
        failures: list[str] = []
        durations: list[float] = []

        def begin(number: int) -> Job:
            run, found = todo[number], self.progress_of(todo[number])
            origin = f' from {found.checkpoint.name}' if found.checkpoint else ''
            self.say(f'{run.name} starts{origin}, {number + 1} of {len(todo)}; its output: {run.log_file}')
            self.current[run.name] = Progress(State.RUNNING)
            return Job(self.prepare(run, found, launch), run.log_file)

        def end(number: int, code: int, seconds: float) -> None:
            failures.extend(self.finish(todo[number], code, seconds))
            durations.append(seconds)
            self.write()
            left = len(todo) - len(durations)
            if left:
                self.say(f'{left} of {len(todo)} runs remain, {time_left(durations, left, launch.jobs)}')

        pool.run(len(todo), begin, end)
        return failures

    def finish(self, run: Run, code: int, seconds: float) -> list[str]:
        """Report the result of a run; return a sentence if it failed."""
        del self.current[run.name]
        found = self.progress_of(run)
        if code == 0 and found.summary is not None:
            scores = [f'{label} {100 * found.summary[name]:.2f}' for name, label in self.plan.task.metrics.items()]
            self.say(f'{run.name}: {", ".join(scores)} in {seconds:.0f} s')
            return []
        why = f'exit code {code}' if code else found.remark or 'no summary was written'
        self.current[run.name] = Progress(State.FAILED, remark=f'{why}, see {run.log_file}')
        sentence = f'{run.name} failed: {why}, see {run.log_file}'
        self.say(sentence)
        return [sentence]

    def outcomes(self) -> list[Outcome]:
        """Return all runs of the table, finished or not."""
        found = [(run, self.progress_of(run)) for run in (*self.selected, *self.others)]
        return [
            Outcome(run.row.run, run.seed, now.state.value, self.summary(run, now), str(run.folder), now.remark)
            for run, now in found
        ]

    def summary(self, run: Run, found: Progress) -> dict[str, Any]:
        """Return the summary of a run; with the first seed, including the scores of the row's single pre-training."""
        first = self.pretrained(run) if run.seed == self.plan.seeds[0] else None
        scores = first.summary or {} if first is not None and self.plan.pretraining is not None else {}
        kept = {name: scores[name] for name in self.plan.metrics if name in scores}
        return {**kept, **(found.summary or {})}

    def write(self) -> Path:
        """Write the tables; return their folder."""
        plan = self.plan
        write_tables(plan.report_dir, plan.table, plan.metrics, self.outcomes(), self.facts())
        return plan.report_dir

    def facts(self) -> dict[str, Any]:
        """Return the conditions of the runs by name, for the tables."""
        plan, machine = self.plan, timing.environment('cuda' if visible_devices() else 'cpu')
        config, first = plan.base, plan.pretraining
        data = config.train_dataloader.dataset
        return {
            'config': ', '.join(recipe.filename for recipe in plan.recipes.values()) or config.filename,
            'data': data.get('data_root') or config.get('data_root', 'see the config'),
            'schedule': schedule(config),
            'batch size': f'{config.train_dataloader.batch_size} images per process',
            'seeds': ', '.join(map(str, plan.seeds)),
            **({'pre-training': f'{first.base.filename}, {schedule(first.base)}, once per row'} if first else {}),
            **weights_facts(self.weights, plan.weights),
            'the paper': plan.task.remark,
            **({'the demo': DEMO} if plan.demo else {}),
            'machine': f'{machine["hardware"]}, {machine["cores"]} cores',
            'versions': ', '.join(f'{name} {version}' for name, version in machine['versions'].items()),
            'command': machine['command'],
        }


def schedule(config: Config) -> str:
    """Return the length of the training."""
    limits = config.train_cfg
    return f'{limits.max_epochs} epochs' if 'max_epochs' in limits else f'{limits.max_iters} iterations'


def time_left(durations: Sequence[float], left: int, jobs: int) -> str:
    """Estimate the time for ``left`` runs, ``jobs`` at a time, from the durations of earlier runs in seconds."""
    minutes = sum(durations) / len(durations) * -(-left // jobs) / 60
    return f'about {minutes / 60:.1f} h' if minutes >= 120 else f'about {minutes:.0f} min'


def weights_facts(weights: dict[str, str], source: str | None) -> dict[str, str]:
    """Describe the initial weights, in one line if all rows start from scratch.

    Args:
        weights: description of the weights of each row.
        source: value of the option ``--weights``.
    """
    texts = set(weights.values())
    if texts <= {FROM_SCRATCH}:
        return {'weights': 'every row from scratch'} if texts else {}
    own = source is not None and '{row}' in source
    caution = 'a file for each row' if own else 'the same for every row; the paper pre-trained every row separately'
    return {'weights': caution, **{f'weights, {run}': text for run, text in weights.items()}}
