"""The scripts in tools/, each in a process of its own, forked from one that has already imported the toolkits."""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from tests.conftest import REPOSITORY

CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload(['swin_backbone.cli', 'swin_backbone.engine.train', 'mmdet.models', 'mmseg.models'])


def call(tool: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run ``tools/TOOL.py`` and return its exit code and output, as ``subprocess.run`` does."""
    command = [f'tools/{tool}.py', *map(str, arguments)]
    with tempfile.TemporaryDirectory() as folder:
        process = CONTEXT.Process(target=execute, args=(command, folder))
        process.start()
        process.join()
        output, errors = ((Path(folder) / stream).read_text() for stream in ('1', '2'))
    return subprocess.CompletedProcess(command, process.exitcode or 0, output, errors)


def execute(command: list[str], folder: str) -> None:
    """Run a script as if it was started from the shell, with its output in files."""
    for descriptor in (1, 2):
        os.dup2(os.open(f'{folder}/{descriptor}', os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(REPOSITORY)
    sys.argv = command
    torch.set_num_threads(1)
    runpy.run_path(command[0], run_name='__main__')
