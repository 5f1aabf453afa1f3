"""Files: written atomically, and the configs that are installed with the package."""

import difflib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from swin_backbone.errors import InputError

TASKS = ('detection', 'segmentation')


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary path beside ``target`` that takes its place on success, and is deleted on any error.

    A reader never sees half a file, and two writers do not disturb each other. The folder is created.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f'.{target.name}.', suffix=target.suffix)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        part.chmod(0o666 & ~umask())
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def umask() -> int:
    """The permissions that this process takes away from new files, which ``mkstemp`` does not follow."""
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


def config_folder() -> Path:
    """The folder of the installed configs: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / 'configs'
    return inside if inside.is_dir() else package.parent / 'configs'


def installed_configs() -> dict[str, Path]:
    """The installed configs by ``task/name``, those in ``_base_`` left out."""
    return {f'{task}/{path.stem}': path for task in TASKS for path in sorted((config_folder() / task).glob('*.py'))}


def find_config(name: str) -> Path:
    """The config file that ``name`` means: a path, or ``name`` or ``task/name`` of an installed config.

    Raises:
        InputError: it is neither, or two tasks have a config of this name.
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
