"""Atomic writing, resumable downloads, and the configs that are installed with the package."""

import difflib
import hashlib
import json
import logging
import os
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from http.client import HTTPException
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from swin_backbone.errors import InputError

LOGGER = logging.getLogger('swin_backbone')
TASKS = ('detection', 'segmentation', 'classification')
CHUNK = 1 << 20
TIMEOUT = 60  # seconds without a byte
PARTIAL_CONTENT, RANGE_NOT_SATISFIABLE = 206, 416


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``target`` that replaces it on success, and is deleted on any error.

    A reader never sees an incomplete file, even after a crash of the machine, and several processes may write the same
    target. The folder is created.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f'.{target.name}.', suffix=target.suffix)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        part.chmod(0o666 & ~umask())
        synchronize(part)
        os.replace(part, target)
        synchronize(target.parent)
    finally:
        part.unlink(missing_ok=True)


def synchronize(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk, if the system supports it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError) if path.is_dir() else nullcontext():  # some file systems do not support folders
            os.fsync(handle)
    finally:
        os.close(handle)


def umask() -> int:
    """Return the umask of this process, which ``mkstemp`` ignores."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def write_bytes(target: Path, content: bytes) -> None:
    """Write a file atomically."""
    with replacing(target) as part:
        part.write_bytes(content)


def write_text(target: Path, content: str) -> None:
    """Write a UTF-8 text file atomically."""
    write_bytes(target, content.encode())


def write_json(target: Path, content: Any) -> None:
    """Write indented JSON with sorted keys atomically."""
    write_text(target, json.dumps(content, indent=2, sort_keys=True) + '\n')


def progress_bar(description: str, total: float | None, **options: Any) -> Any:
    """Create a ``tqdm`` bar, updated once a minute in log files; without tqdm it shows nothing."""
    try:
        from tqdm import tqdm  # type: ignore[import-untyped]
    except ImportError:
        return nullcontext(SimpleNamespace(update=lambda count=1: None))
    interval = 0.1 if sys.stderr.isatty() else 60
    return tqdm(desc=description, total=total, mininterval=interval, **options)


def download(url: str, target: Path, *, size: int = 0, digest: str = '') -> Path:
    """Download ``url`` to ``target``, unless it exists.

    The file is named ``<target>.part`` until it is complete and checked. A later call resumes it, and waits while
    another process, such as another rank of a distributed run, is writing it.

    Args:
        url: an http, https or file URL.
        target: where the file is stored.
        size: published size in bytes; 0 if unknown.
        digest: published hash as ``algorithm:hexadecimal``; empty if unknown.

    Raises:
        InputError: if the download fails, or the file differs from the published one.
    """
    if target.is_file():
        if size and target.stat().st_size != size:
            raise InputError(
                f'{target} has {target.stat().st_size:,} bytes, but the published file has {size:,}: delete it to '
                'download it again.'
            )
        return target
    part = target.with_name(f'{target.name}.part')
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(part):
            if not target.is_file():
                LOGGER.info('downloading %s to %s', url, target)
                _receive(url, part, size)
                _verify(part, url, size, digest)
                os.replace(part, target)
    except InputError:
        raise
    except (OSError, HTTPException, ValueError) as error:
        resume = f' to resume after {part.stat().st_size / 1e6:.1f} MB' if part.is_file() else ''
        raise InputError(
            f'cannot download {url} ({getattr(error, "reason", None) or error}): try again{resume}, or download it '
            f'elsewhere and put it at {target}.'
        ) from error
    return target


@contextmanager
def _locked(part: Path) -> Iterator[None]:
    """Lock a partial download exclusively, if the system supports it, and remove the file if it is empty."""
    with part.open('ab') as file:
        with suppress(ImportError, OSError):  # Windows, and file systems without locks
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            if part.is_file() and part.stat().st_size == 0:
                part.unlink()


def _receive(url: str, part: Path, size: int) -> None:
    """Append the missing bytes of ``url`` to ``part``."""
    have = part.stat().st_size
    if size and have == size:
        return
    headers = {'User-Agent': 'swin-backbone', **({'Range': f'bytes={have}-'} if have else {})}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if have and error.code == RANGE_NOT_SATISFIABLE:  # nothing is missing
            return
        raise
    with response:
        if getattr(response, 'status', None) != PARTIAL_CONTENT:  # the server sends the whole file
            have = 0
        length = int(response.headers.get('Content-Length') or 0)
        total = have + length if length else size
        bar = progress_bar(part.stem, total or None, initial=have, unit='B', unit_scale=True)
        with part.open('ab' if have else 'wb') as file, bar as progress:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                progress.update(len(chunk))
            received = file.tell()
    if received < total:
        raise OSError(f'received {received:,} of {total:,} bytes')


def _verify(part: Path, url: str, size: int, digest: str) -> None:
    """Delete a download that differs from the published file, and raise InputError."""
    problem, found = '', part.stat().st_size
    if size and found != size:
        problem = f'has {found:,} bytes, but the published file has {size:,}'
    elif digest:
        algorithm, _, expected = digest.partition(':')
        computed = hashlib.new(algorithm, usedforsecurity=False)
        bar = progress_bar(f'checking {part.stem}', found, unit='B', unit_scale=True)
        with part.open('rb') as file, bar as progress:
            while chunk := file.read(CHUNK):
                computed.update(chunk)
                progress.update(len(chunk))
        if computed.hexdigest() != expected:
            problem = f'does not have the {algorithm} hash of the published file'
    if problem:
        part.unlink()
        raise InputError(f'{url} {problem}, and was deleted: try again, from another network if it happens twice.')


def config_folder() -> Path:
    """Return the folder of the configs: inside the package in a wheel, next to it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / 'configs'
    return inside if inside.is_dir() else package.parent / 'configs'


def installed_configs() -> dict[str, Path]:
    """Return the installed configs by ``task/name``, without those in ``_base_``."""
    return {f'{task}/{path.stem}': path for task in TASKS for path in sorted((config_folder() / task).glob('*.py'))}


def find_config(name: str) -> Path:
    """Return the file of a config, given as a path or as ``name`` or ``task/name`` of an installed config.

    Raises:
        InputError: if there is no such config, or two tasks have a config of this name.
    """
    if Path(name).is_file():
        return Path(name)
    known = installed_configs()
    wanted = name.removesuffix('.py').removeprefix('configs/')
    found = [key for key in known if wanted in (key, key.partition('/')[2])]
    if len(found) == 1:
        return known[found[0]]
    if found:
        raise InputError(f'there is more than one config {name!r}: use {" or ".join(found)}.')
    close = difflib.get_close_matches(wanted, [key.partition('/')[2] for key in known], n=3)
    hint = f'did you mean {" or ".join(close)}?' if close else '`swin-backbone configs` lists the installed ones.'
    raise InputError(f'there is no config {name}: give a path or the name of an installed config; {hint}')
