"""Checks of input and output paths and of the launcher."""

import os
import tempfile
from pathlib import Path

from swin_backbone.checkpoint.find import is_remote
from swin_backbone.errors import InputError


def check_writable(path: str | os.PathLike[str], option: str) -> None:
    """Check that a folder can be created and written to, without creating it.

    Raises:
        InputError: if it is a file or not writable.
    """
    folder = Path(path)
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise InputError(f'{option} {path}: {folder} is a file, not a folder: give another folder.')
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f'{option} {path} cannot be written: {folder}: {reason}. Give another folder.') from error


def check_local(source: str, option: str) -> None:
    """Check that a local path exists; published names and URLs are checked when they are read.

    Raises:
        InputError: if it does not exist.
    """
    if not is_remote(source) and not Path(source).expanduser().exists():
        raise InputError(
            f'{option} {source} does not exist: expected a .pth or .safetensors checkpoint; check the path.'
        )


LAUNCHER_VARIABLES = {
    'pytorch': ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'),
    'slurm': ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST'),
    'mpi': ('OMPI_COMM_WORLD_LOCAL_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_RANK', 'MASTER_ADDR'),
}
STARTERS = {'pytorch': 'torchrun --nproc-per-node N', 'slurm': 'srun', 'mpi': 'mpirun, with MASTER_ADDR set'}


def check_launcher(launcher: str) -> None:
    """Check that this process was started by the given launcher.

    Raises:
        InputError: if the environment variables of the launcher are not set.
    """
    missing = [name for name in LAUNCHER_VARIABLES.get(launcher, ()) if name not in os.environ]
    if missing:
        raise InputError(
            f'--launcher {launcher} needs the environment variable {missing[0]}, which is not set: start the command '
            f'with {STARTERS[launcher]}, or leave --launcher out.'
        )
