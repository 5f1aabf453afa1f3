"""Runs of an ablation as jobs of Slurm, through submitit."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swin_backbone.ablations.process_pool import Launch
from swin_backbone.ablations.runs import PRETRAINING, PRETRAINING_SEED, State
from swin_backbone.ablations.sweep import Sweep
from swin_backbone.errors import InputError


@dataclass(frozen=True)
class RunJob:
    """What a job does: it runs the command of one run, and again after Slurm has interrupted it.

    Attributes:
        command: starts the run, or resumes it from its newest checkpoint.
        log: file to which its output is appended.
    """

    command: Sequence[str]
    log: Path

    def __call__(self) -> int:
        """Run the command; raises if it fails."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open('ab') as log:
            return subprocess.run(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True).returncode

    def checkpoint(self) -> Any:
        """Submit the same job again after a time-out or a preemption."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def make_executor(folder: Path, options: Mapping[str, Any]) -> Any:
    """Build submitit's executor.

    Args:
        folder: for what submitit writes.
        options: of submitit's AutoExecutor, such as ``slurm_partition``; ``cluster`` replaces Slurm.

    Raises:
        InputError: submitit or Slurm is missing, or an option is unknown.
    """
    try:
        import submitit
    except ImportError as error:
        raise InputError("--slurm needs submitit: run pip install 'swin-backbone[slurm]'.") from error
    others = dict(options)
    cluster = others.pop('cluster', 'slurm')
    if cluster == 'slurm' and shutil.which('sbatch') is None:
        raise InputError('--slurm needs sbatch, which is not on this machine: submit from a login node, or use --jobs.')
    executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
    try:
        executor.update_parameters(**others)
    except (AssertionError, NameError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip('.')
        raise InputError(f"--slurm-options: {reason}; give parameters of submitit's AutoExecutor.") from error
    return executor


def submit(sweep: Sweep, executor: Any, launch: Launch) -> dict[str, Any]:
    """Submit the unfinished runs of a sweep, those that start from another one's weights to begin after it.

    A run that tests the network of another one is left for the next call, unless that one is finished.

    Returns:
        submitit's jobs by the task and the name of the run.
    """
    first = submit(sweep.first, executor, launch) if sweep.first is not None else {}
    jobs = {}
    for run in sweep.asked:
        found = sweep.look(run)
        if found.state is State.FINISHED or (run.source is not None and run.tested is None):
            continue
        before = first.get(f'{PRETRAINING}, {run.row.run} seed {PRETRAINING_SEED}')
        dependency = {} if before is None else {'dependency': f'afterok:{before.job_id}'}
        executor.update_parameters(name=f'{run.row.run}-{run.seed}', slurm_additional_parameters=dependency)
        job = executor.submit(RunJob(sweep.prepare(run, found, launch), run.log_file))
        jobs[f'{sweep.plan.task_name}, {run.name}'] = job
        sweep.say(f'{sweep.plan.task_name}, {run.name}: job {job.job_id}; its output: {run.log_file}')
    return {**first, **jobs}
