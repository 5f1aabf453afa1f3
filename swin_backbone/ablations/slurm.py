"""Submit the runs of an ablation to Slurm with submitit."""

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
    """A job that runs the command of one run, and is submitted again after Slurm has interrupted it.

    Attributes:
        command: command that starts the run, or resumes it from its newest checkpoint.
        log: file to which its output is appended.
    """

    command: Sequence[str]
    log: Path

    def __call__(self) -> int:
        """Run the command; raise an error if it fails."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open('ab') as log:
            return subprocess.run(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True).returncode

    def checkpoint(self) -> Any:
        """Submit the same job again after a timeout or a preemption."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def make_executor(folder: Path, options: Mapping[str, Any]) -> Any:
    """Build submitit's executor.

    Args:
        folder: folder for submitit's files.
        options: options of submitit's AutoExecutor, such as ``slurm_partition``; ``cluster`` replaces Slurm.

    Raises:
        InputError: if submitit or Slurm is missing, or an option is unknown.
    """
    try:
        import submitit
    except ImportError as error:
        raise InputError("--slurm needs submitit: run pip install 'swin-backbone[slurm]'.") from error
    others = dict(options)
    cluster = others.pop('cluster', 'slurm')
    if cluster == 'slurm' and shutil.which('sbatch') is None:
        raise InputError('--slurm needs sbatch, which was not found: submit from a login node, or use --jobs.')
    executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
    try:
        executor.update_parameters(**others)
    except (AssertionError, NameError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip('.')
        raise InputError(f"--slurm-options: {reason}; use parameters of submitit's AutoExecutor.") from error
    return executor


def submit(sweep: Sweep, executor: Any, launch: Launch) -> dict[str, Any]:
    """Submit the unfinished runs of a sweep; runs that start from another run's weights depend on its job.

    A run that tests the network of an unfinished run is skipped; call this function again later.

    Returns:
        submitit's jobs by task and name of the run.
    """
    first = submit(sweep.pretraining, executor, launch) if sweep.pretraining is not None else {}
    jobs = {}
    for run in sweep.selected:
        found = sweep.progress_of(run)
        if found.state is State.FINISHED or (run.source is not None and run.tested_checkpoint is None):
            continue
        before = first.get(f'{PRETRAINING}, {run.row.run} seed {PRETRAINING_SEED}')
        dependency = {} if before is None else {'dependency': f'afterok:{before.job_id}'}
        executor.update_parameters(name=f'{run.row.run}-{run.seed}', slurm_additional_parameters=dependency)
        job = executor.submit(RunJob(sweep.prepare(run, found, launch), run.log_file))
        jobs[f'{sweep.plan.task_name}, {run.name}'] = job
        sweep.say(f'{sweep.plan.task_name}, {run.name}: job {job.job_id}; its output: {run.log_file}')
    return {**first, **jobs}
