"""Lock file that allows one run per folder."""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from swin_backbone.errors import InputError

NAME = '.running'
RANKS = ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')
"""Environment variables in which launchers set the rank of a process."""


def is_first_process() -> bool:
    """Return whether this process is the only one of a run or has rank 0."""
    return next((os.environ[name] for name in RANKS if name in os.environ), '0') == '0'


@contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Lock a folder for this run; the first process does it for all.

    A lock of this machine is stale if its process is not running any more. The lock file is empty after a run.

    Raises:
        InputError: if another process uses the folder.
    """
    if not is_first_process():
        yield
        return
    path = Path(folder) / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_locked(path) as file:
        check_holder(path, read(file))
        write(file, json.dumps(dict(this_process(), since=time.strftime('%Y-%m-%d %H:%M:%S'))))
    try:
        yield
    finally:
        with suppress(OSError), open_locked(path) as file:
            if this_process().items() <= dict(read(file) or {}).items():
                write(file, '')


def check_free(folder: str | Path) -> None:
    """Check that no other process uses a folder.

    Raises:
        InputError: if one does.
    """
    path = Path(folder) / NAME
    if path.is_file():
        with open_locked(path) as file:
            check_holder(path, read(file))


@contextmanager
def open_locked(path: Path) -> Iterator[TextIO]:
    """Open the lock file with an exclusive system lock, where the file system supports it."""
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), 'r+') as file:
        with suppress(ImportError, OSError):  # Windows, and file systems without locks
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def read(file: TextIO) -> Any:
    """Return the content of a lock file; None if it is not valid JSON."""
    with suppress(ValueError):
        return json.load(file)
    return None


def write(file: TextIO, text: str) -> None:
    """Replace the content of a lock file."""
    file.seek(0)
    file.truncate()
    file.write(text)


def this_process() -> dict[str, Any]:
    """Return the entries of the lock file that identify this process."""
    return dict(host=socket.gethostname(), pid=os.getpid(), begun=start_time(os.getpid()))


def start_time(pid: int) -> int | None:
    """Return the start time of a process in clock ticks since boot; None if it is not running or there is no /proc."""
    with suppress(OSError, ValueError):
        # The process name, in parentheses, may contain spaces and parentheses.
        return int(Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[19])
    return None


def check_holder(path: Path, holder: Any) -> None:
    """Check that the process of a lock is not running any more.

    Raises:
        InputError: if it may be running; the message states host, process id and time.
    """
    if not isinstance(holder, dict) or not {'host', 'pid', 'begun', 'since'} <= holder.keys():
        return
    host, pid = holder['host'], holder['pid']
    who = f'{path.parent} is in use by process {pid} on {host} since {holder["since"]}'
    if host != socket.gethostname():
        raise InputError(f'{who}: choose another --work-dir, or delete {path} if that process has ended.')
    if is_running(pid, holder['begun']):
        raise InputError(f'{who}: wait until it has finished, stop it, or choose another --work-dir.')


def is_running(pid: Any, begun_then: Any) -> bool:
    """Return whether a process is running and its id was not reused by a different one."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass
    except (OSError, TypeError, OverflowError):
        return False
    return begun_then is None or start_time(pid) in (begun_then, None)
