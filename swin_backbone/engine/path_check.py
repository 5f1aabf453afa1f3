"""Check the places that a run reads from and writes to, and what has started it."""

import os
import tempfile
from pathlib import Path

from swin_backbone.checkpoint.find import is_remote
from swin_backbone.errors import InputError


def check_writable(path: str | os.PathLike[str], option: str) -> None:
    """Refuse a folder that could not be created or written to; leaves nothing behind.

    Raises:
        InputError: it is a file, or lies in a place without write access.
    """
    folder = Path(path)
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise InputError(f'{option} {path}: {folder} is a file where a folder is needed: name another folder.')
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f'{option} {path} cannot be written: {folder}: {reason}. Name another folder.') from error


def check_local(source: str, option: str) -> None:
    """Refuse a path that does not exist; names and URLs are left to the reader.

    Raises:
        InputError: it does not exist.
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
    """Refuse a launcher that has not started this process.

    Raises:
        InputError: its environment variables are missing.
    """
    missing = [name for name in LAUNCHER_VARIABLES.get(launcher, ()) if name not in os.environ]
    if missing:
        raise InputError(
            f'--launcher {launcher} needs the environment of {launcher} and {missing[0]} is not set: start the command '
            f'with {STARTERS[launcher]}, or leave --launcher out.'
        )
