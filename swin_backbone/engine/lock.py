"""One run per folder: a file in it names the process that writes there."""

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
"""Where launchers say which process this is."""


def is_first_process() -> bool:
    """Whether this process is the only one of a run, or the first."""
    return next((os.environ[name] for name in RANKS if name in os.environ), '0') == '0'


@contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Hold a folder for this run; the first process does it for all.

    A lock is stale if its process is not running on this machine. It is empty after a run.

    Raises:
        InputError: another process holds it.
    """
    if not is_first_process():
        yield
        return
    path = Path(folder) / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    with opened(path) as file:
        refuse_holder(path, read(file))
        write(file, json.dumps(dict(ourselves(), since=time.strftime('%Y-%m-%d %H:%M:%S'))))
    try:
        yield
    finally:
        with suppress(OSError), opened(path) as file:
            if ourselves().items() <= dict(read(file) or {}).items():
                write(file, '')


def check_free(folder: str | Path) -> None:
    """Refuse a folder that another process holds.

    Raises:
        InputError: it does.
    """
    path = Path(folder) / NAME
    if path.is_file():
        with opened(path) as file:
            refuse_holder(path, read(file))


@contextmanager
def opened(path: Path) -> Iterator[TextIO]:
    """The lock file; where the system has locks, no other process reads or writes it meanwhile."""
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), 'r+') as file:
        with suppress(ImportError, OSError):  # Windows, and file systems without locks
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def read(file: TextIO) -> Any:
    """The content of a lock file; None if it cannot be read."""
    with suppress(ValueError):
        return json.load(file)
    return None


def write(file: TextIO, text: str) -> None:
    """Replace the content of a lock file."""
    file.seek(0)
    file.truncate()
    file.write(text)


def ourselves() -> dict[str, Any]:
    """How a lock names this process."""
    return dict(host=socket.gethostname(), pid=os.getpid(), begun=begun(os.getpid()))


def begun(pid: int) -> int | None:
    """When a process began, in the system's own count; None if it is not running, or the system does not say."""
    with suppress(OSError, ValueError):
        # Its name, in parentheses, may hold anything.
        return int(Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[19])
    return None


def refuse_holder(path: Path, holder: Any) -> None:
    """Refuse a lock whose process may be running.

    Raises:
        InputError: names host, process and time.
    """
    if not isinstance(holder, dict) or not {'host', 'pid', 'begun', 'since'} <= holder.keys():
        return
    host, pid = holder['host'], holder['pid']
    who = f'{path.parent} is in use by process {pid} on {host} since {holder["since"]}'
    if host != socket.gethostname():
        raise InputError(f'{who}: choose another --work-dir, or delete {path} if that process is not running any more.')
    if is_running(pid, holder['begun']):
        raise InputError(f'{who}: wait for it, end it, or choose another --work-dir.')


def is_running(pid: Any, begun_then: Any) -> bool:
    """Whether a process is running, and not another one that got its number later."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass
    except (OSError, TypeError, OverflowError):
        return False
    return begun_then is None or begun(pid) in (begun_then, None)
