"""Ablations as sweeps: start what is missing, keep what is finished, and write the table after every run."""

import os
import shlex
import shutil
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

from swin_backbone.ablations.pages import write_tables
from swin_backbone.ablations.plan import FROM_SCRATCH, Launch, Plan, Progress, Run, State, starting_weights
from swin_backbone.ablations.results import Outcome
from swin_backbone.benchmark import timing
from swin_backbone.engine.lock import check_free, locked
from swin_backbone.errors import InputError

Say = Callable[[str], None]
DEMO = 'other data, a small network and a short schedule: compare signs and order, not values'
PATIENCE_S = 20.0
"""Seconds that processes have to end after SIGTERM before they are killed."""


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


class Sweep:
    """The runs of a plan, and the tables of their scores.

    Args:
        plan: what is run.
        rows: names of the rows to run; all by default. The tables include what is there of the others.
        say: called with a line for every event.
    """

    def __init__(self, plan: Plan, rows: Sequence[str] | None, say: Say) -> None:
        self.plan = plan
        self.say = say
        self.asked = plan.runs(rows)
        self.others = [run for run in plan.runs() if run.name not in {asked.name for asked in self.asked}]
        self.weights: dict[str, str] = {}
        self.live: dict[str, Progress] = {}

    def check(self) -> None:
        """Build every backbone with its weights, before days are spent on the first run.

        Raises:
            InputError: a backbone or its weights cannot be used.
        """
        for run in self.asked:
            if run.source is None and run.row.run not in self.weights:
                self.weights[run.row.run] = starting_weights(run)

    def clear(self, redo: bool) -> None:
        """Delete the folders of runs that were made with other options.

        Raises:
            InputError: there is one, and ``redo`` is False or a process is using it.
        """
        for run in self.asked:
            found = self.look(run)
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

    def look(self, run: Run) -> Progress:
        """The progress of a run."""
        return self.live.get(run.name) or run.progress(self.plan.task.metrics)

    def commands(self, launch: Launch) -> list[str]:
        """Write the configs of the unfinished runs; return their command lines.

        A run that tests the network of another one has a command when that one is finished.
        """
        found = [(run, self.look(run)) for run in self.asked if run.source is None or run.tested is not None]
        return [shlex.join(self.prepare(run, now, launch)) for run, now in found if now.state is not State.FINISHED]

    def prepare(self, run: Run, found: Progress, launch: Launch) -> list[str]:
        """Write the config of an unfinished run; return its command."""
        run.write_config()
        # The summary of an earlier attempt must not be mistaken for this one's.
        (run.folder / 'summary.json').unlink(missing_ok=True)
        return run.command(found, launch)

    def start(self, launch: Launch) -> list[str]:
        """Start or resume the unfinished runs; return a sentence for each that failed.

        Raises:
            InputError: another process is using the work dir.
            KeyboardInterrupt: the sweep was interrupted.
        """
        with locked(self.plan.work_dir):
            return self.work(launch)

    def work(self, launch: Launch) -> list[str]:
        """Start or resume the unfinished runs in a work dir that no other process uses."""
        pool = Pool(make_slots(launch, visible_devices()))
        todo = [run for run in self.asked if self.look(run).state is not State.FINISHED]
        if len(todo) < len(self.asked):
            self.say(f'{len(self.asked) - len(todo)} of {len(self.asked)} runs are finished already and are kept')
        failures: list[str] = []
        try:
            failures += self.run_all([run for run in todo if run.source is None], pool, launch)
            tests = [run for run in todo if run.source is not None]
            failures += [
                f'{run.name} was not tested: the run {run.row.source} with this seed is not finished, add it to --rows'
                for run in tests
                if run.tested is None
            ]
            failures += self.run_all([run for run in tests if run.tested is not None], pool, launch)
        except KeyboardInterrupt:
            self.live = {name: found for name, found in self.live.items() if found.state is not State.RUNNING}
            self.write()
            self.say('interrupted: repeat the command to continue')
            raise
        if not todo:
            self.write()
        return failures

    def run_all(self, todo: Sequence[Run], pool: Pool, launch: Launch) -> list[str]:
        """Start some runs, in order; return a sentence for each that failed."""
        failures: list[str] = []
        durations: list[float] = []

        def begin(number: int) -> Job:
            run, found = todo[number], self.look(todo[number])
            origin = f' from {found.checkpoint.name}' if found.checkpoint else ''
            self.say(f'{run.name} starts{origin}, {number + 1} of {len(todo)}; its output: {run.log_file}')
            self.live[run.name] = Progress(State.RUNNING)
            return Job(self.prepare(run, found, launch), run.log_file)

        def end(number: int, code: int, seconds: float) -> None:
            failures.extend(self.finish(todo[number], code, seconds))
            durations.append(seconds)
            self.write()
            left = len(todo) - len(durations)
            if left:
                self.say(f'{left} of {len(todo)} runs are left, {time_left(durations, left, launch.jobs)}')

        pool.run(len(todo), begin, end)
        return failures

    def finish(self, run: Run, code: int, seconds: float) -> list[str]:
        """Report the result of a run; return a sentence if it failed."""
        del self.live[run.name]
        found = self.look(run)
        if code == 0 and found.summary is not None:
            scores = [f'{label} {100 * found.summary[name]:.2f}' for name, label in self.plan.task.metrics.items()]
            self.say(f'{run.name}: {", ".join(scores)} in {seconds:.0f} s')
            return []
        why = f'exit code {code}' if code else found.remark or 'it wrote no summary'
        self.live[run.name] = Progress(State.FAILED, remark=f'{why}, see {run.log_file}')
        sentence = f'{run.name} failed: {why}, see {run.log_file}'
        self.say(sentence)
        return [sentence]

    def outcomes(self) -> list[Outcome]:
        """All runs of the table, finished or not."""
        found = [(run, self.look(run)) for run in (*self.asked, *self.others)]
        return [
            Outcome(run.row.run, run.seed, now.state.value, now.summary or {}, str(run.folder), now.remark)
            for run, now in found
        ]

    def write(self) -> Path:
        """Write the tables; return their folder."""
        plan = self.plan
        write_tables(plan.report_dir, plan.table, plan.task, self.outcomes(), self.facts())
        return plan.report_dir

    def facts(self) -> dict[str, Any]:
        """The conditions of the runs, by name, for a reader of the tables."""
        plan, machine = self.plan, timing.environment('cuda' if visible_devices() else 'cpu')
        config, limits = plan.base, plan.base.train_cfg
        epochs = limits.get('max_epochs')
        data = config.train_dataloader.dataset
        return {
            'config': ', '.join(recipe.filename for recipe in plan.recipes.values()) or config.filename,
            'data': data.get('data_root') or config.get('data_root', 'see the config'),
            'schedule': f'{epochs} epochs' if epochs else f'{limits.max_iters} iterations',
            'batch size': f'{config.train_dataloader.batch_size} images per process',
            'seeds': ', '.join(map(str, plan.seeds)),
            **weights_facts(self.weights, plan.weights),
            'the paper': plan.task.remark,
            **({'the demo': DEMO} if plan.demo else {}),
            'machine': f'{machine["hardware"]}, {machine["cores"]} cores',
            'versions': ', '.join(f'{name} {version}' for name, version in machine['versions'].items()),
            'command': machine['command'],
        }


def time_left(durations: Sequence[float], left: int, jobs: int) -> str:
    """Estimate how long ``left`` runs take, ``jobs`` at a time, from the seconds of those before."""
    minutes = sum(durations) / len(durations) * -(-left // jobs) / 60
    return f'for about {minutes / 60:.1f} h' if minutes >= 120 else f'for about {minutes:.0f} min'


def weights_facts(weights: dict[str, str], source: str | None) -> dict[str, str]:
    """Describe the starting weights, once where they are the same for all rows.

    Args:
        weights: the description for each row.
        source: the option ``--weights``.
    """
    texts = set(weights.values())
    if texts <= {FROM_SCRATCH}:
        return {'weights': 'every row from scratch'} if texts else {}
    own = source is not None and '{row}' in source
    caution = 'a file for each row' if own else 'the same for every row, where the paper pre-trained each row as itself'
    return {'weights': caution, **{f'weights, {run}': text for run, text in weights.items()}}


def visible_devices() -> list[str]:
    """The available GPUs, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    named, count = os.environ.get('CUDA_VISIBLE_DEVICES'), torch.cuda.device_count()
    return named.split(',') if named and count else [str(number) for number in range(count)]
