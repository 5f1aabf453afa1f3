"""Trials of configs as a page: what every config did on a few pictures."""

import os
import platform
from collections.abc import Sequence

import torch

from swin_backbone.doctor import TOOLKITS, version
from swin_backbone.model_zoo.trials import PICTURES, REGIONS, Trial

HEADING = ('config', 'loss', 'seconds', 'peak MiB', 'evaluated picture', 'outcome')
INTRODUCTION = """\
# Configs, tried

Written by the command below; do not edit. Every config was built in full size from random weights and made one training
step on {pictures} pictures about {side} pixels high, with {regions} sampled regions where there are regions: it passed
if the loss and the gradient of every trained parameter are finite. Then one validation picture was predicted and
evaluated; what an untrained network scores means nothing, but that the whole way to a score works. Seconds are the
processor's and include building; the peak is that of the process, torch and the toolkits included.

'shapes' is the data set of `swin-backbone prepare-data shapes`; other folders are the user's own. The outcome says what
was not as in the config: InstaBoost is left out where its package is missing, and where COCO's stuff maps are missing,
the semantic maps of the folder stand in.

    {command}

{machine}.
"""


def as_markdown(trials: Sequence[Trial], side: int, command: str) -> str:
    """The page of all trials, a table for every folder of data.

    Args:
        trials: in the order of the tables.
        side: height of the pictures in pixels.
        command: what made this.
    """
    parts = [INTRODUCTION.format(pictures=PICTURES, side=side, regions=REGIONS, command=command, machine=machine())]
    for data in dict.fromkeys(trial.data for trial in trials):
        chosen = [trial for trial in trials if trial.data == data]
        passed = sum(not trial.failure for trial in chosen)
        title = data or "the configs' own data"
        parts.append(f'## On {title}: {passed} of {len(chosen)} passed\n\n{table(chosen)}')
    return '\n'.join(parts)


def table(trials: Sequence[Trial]) -> str:
    """Trials on one folder of data."""
    lines = ['| ' + ' | '.join(HEADING) + ' |', '|---|--:|--:|--:|---|---|']
    for trial in trials:
        scores = [f'{name.rpartition("/")[2]} {value:.3f}' for name, value in trial.metrics.items()]
        numbers = f'{trial.loss:.3f} | {trial.seconds:.1f} | {trial.peak / 2**20:.0f}'
        lines.append(f'| {trial.config} | {numbers} | {scores[0] if scores else "none"} | {trial.outcome} |')
    return '\n'.join(lines) + '\n'


def machine() -> str:
    """What this runs on: the machine, and the packages in a line of their own."""
    versions = ', '.join(f'{name} {version(name)}' for name in ('torch', *TOOLKITS))
    cores = f'{os.cpu_count()} cores, {torch.get_num_threads()} in use'
    return f'{platform.system()} {platform.machine()}, {cores}; Python {platform.python_version()},\n{versions}'
