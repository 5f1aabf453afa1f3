"""Read a checkpoint file without running anything that is in it, and tell a broken one for what it is."""

import json
import os
import re
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch

from swin_backbone.errors import InputError

EXPECTED = 'expected a .pth or .safetensors checkpoint'
START = 512
MAX_HEADER = 100_000_000
ARCHIVES = {b'\x1f\x8b': 'gzip', b'BZh': 'bzip2', b'\xfd7zXZ': 'xz', b'7z\xbc\xaf': '7z', b'Rar!': 'rar'}


def read_checkpoint(path: Path) -> Mapping[Any, Any]:
    """Everything that a checkpoint file holds, on the CPU; pickled code is never run.

    The format is told from the contents, not from the suffix.

    Raises:
        InputError: there is no such file, it is no checkpoint, it is incomplete, or it needs code to be run.
    """
    start, size = look(path)
    # The length of a JSON header, and the header.
    if start[8:9] == b'{' and int.from_bytes(start[:8], 'little') < MAX_HEADER:
        return read_safetensors(path, start, size)
    if start.startswith(b'PK\x03\x04'):
        check_archive(path, size)
    if start.startswith((b'PK\x03\x04', b'\x80')):
        return read_pickle(path)
    if path.suffix == '.safetensors' and 0 < size <= 8:
        raise truncated(path, size)
    raise InputError(f'{path} is {describe(start, size)}: {EXPECTED}.')


def look(path: Path) -> tuple[bytes, int]:
    """The first bytes of a file and its size."""
    if path.is_dir():
        inside = sorted(p.name for p in path.iterdir() if p.suffix in ('.pth', '.pt', '.bin', '.safetensors'))
        hint = f'name a file in it, such as {path / inside[0]}' if inside else EXPECTED
        raise InputError(f'{path} is a folder: {hint}.')
    try:
        with open(path, 'rb') as file:
            return file.read(START), os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        raise InputError(f'{path} does not exist: {EXPECTED}; check the path.') from None
    except OSError as error:
        raise InputError(f'{path} cannot be read: {error.strerror}.') from error


def describe(start: bytes, size: int) -> str:
    """What a file is that is no checkpoint."""
    opening = start.lstrip().lower()
    if not size:
        return 'empty'
    if start.startswith(b'version https://git-lfs'):
        return 'a Git LFS pointer in place of the weights ("git lfs pull" fetches them)'
    if opening.startswith((b'<!doctype', b'<html', b'<?xml', b'<head')):
        return 'a web page, not weights (the download was answered with an error or a login page; download it again)'
    for magic, name in ARCHIVES.items():
        if start.startswith(magic):
            return f'a {name} archive (unpack it first)'
    if not start.strip(b'\x00'):
        return 'filled with zeros, as by an interrupted download (download it again)'
    text = start.decode('utf-8', 'replace')
    if '\x00' in text or '\ufffd' in text[:-4]:
        return f'no checkpoint (it starts with {start[:8]!r})'
    return f'a text file (it starts with {text[:40]!r})'


def read_safetensors(path: Path, start: bytes, size: int) -> Mapping[str, Any]:
    """The tensors of a safetensors file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    length = int.from_bytes(start[:8], 'little')
    try:
        if 8 + length <= size:
            with open(path, 'rb') as file:
                header = json.loads(file.read(8 + length)[8:])
            ends = [entry['data_offsets'][1] for name, entry in header.items() if name != '__metadata__']
            if 8 + length + max(ends, default=0) <= size:
                return load_file(path)
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise InputError(f'{path} is a damaged safetensors file ({error}): download or save it again.') from error
    raise truncated(path, size)


def truncated(path: Path, size: int) -> InputError:
    """The error for a file without its end."""
    return InputError(f'{path} is incomplete: it ends after {size:,} bytes, before its end: download or copy it again.')


def check_archive(path: Path, size: int) -> None:
    """Refuse a zip archive that is incomplete or that PyTorch did not write."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        raise truncated(path, size) from None
    if any(name.endswith('/constants.pkl') for name in names):
        raise InputError(f'{path} is a TorchScript program, not a state dict: save model.state_dict() instead.')
    if not any(name.endswith('/data.pkl') for name in names):
        raise InputError(f'{path} is a zip archive without a checkpoint at its top: unpack it and name the file in it.')


def read_pickle(path: Path) -> Mapping[Any, Any]:
    """The contents of a file that ``torch.save`` wrote."""
    try:
        # An open file, because of a path PyTorch believes the suffix.
        with safe_globals(), open(path, 'rb') as file:
            contents = torch.load(file, map_location='cpu', weights_only=True)
    except UnpicklingError as error:
        raise refused(path, error) from error
    except Exception as error:  # whatever else a damaged or made-up file makes the reader stumble over
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f'{path} is damaged or incomplete ({reason}): download or save it again.') from error
    if isinstance(contents, torch.Tensor) or not isinstance(contents, Mapping):
        raise InputError(f'{path} holds a {type(contents).__name__}, no state dict: save model.state_dict() instead.')
    return contents


def refused(path: Path, error: UnpicklingError) -> InputError:
    """The error for a file that needs more than reading."""
    named = re.search(r'GLOBAL (\S+)', str(error)) or re.search(r'function (.+)$', str(error).splitlines()[0])
    if named is None:
        reason = str(error).rpartition('WeightsUnpickler error: ')[2].strip().splitlines() or [type(error).__name__]
        return InputError(f'{path} is damaged or incomplete ({reason[0]}): download or save it again.')
    return InputError(
        f'{path} is refused: reading it would need {named[1].rstrip(".")}, and only tensors and plain settings are '
        'read from a file. If you trust it, save its state dict alone, where it comes from, and use that file.'
    )


# Settings that training scripts save beside the weights: kept as plain dicts, whatever they were.
SETTINGS = (
    'argparse.Namespace',
    'collections.defaultdict',
    'mmcv.utils.config.ConfigDict',
    'mmengine.config.config.ConfigDict',
    'pathlib.Path',
    'pathlib.PosixPath',
    'pathlib.WindowsPath',
    'yacs.config.CfgNode',
)
HISTORY = 'mmengine.logging.history_buffer'
PLAIN_DTYPE = re.compile(r'[|<>=]?[biufcSU]\d+')


class Settings:
    """Stands in for a class of settings: becomes a dict, which takes items and attributes and runs nothing."""

    def __new__(cls, *args: object) -> 'OrderedDict[str, Any]':  # type: ignore[misc]
        """A dict of the kind whose attributes the ``weights_only`` reader can set."""
        return OrderedDict()


class PlainDtype:
    """Stands in for ``numpy.dtype``: a number or a string of fixed size, never an object or a record."""

    def __init__(self, code: str, *args: object) -> None:
        if not PLAIN_DTYPE.fullmatch(code):
            raise UnpicklingError(f'GLOBAL numpy.dtype({code})')
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take the byte order; the rest of a dtype's state only matters for records."""
        if state[1] in ('<', '>'):
            self.dtype = self.dtype.newbyteorder(state[1])


class PlainArray(np.ndarray[Any, Any]):
    """Stands in for ``numpy.ndarray``: is filled from a :class:`PlainDtype` only, and pickled as a plain array."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take shape and contents, which numpy checks against each other."""
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, PlainDtype) or not isinstance(data, bytes):
            raise UnpicklingError('GLOBAL numpy.ndarray')
        super().__setstate__((1, shape, dtype.dtype, fortran, data))

    def __reduce_ex__(self, protocol: Any) -> Any:
        """As a plain array: no file should name this class."""
        return np.array(self, subok=False).__reduce_ex__(protocol)


def new_array(kind: object, *args: object) -> PlainArray:
    """Stands in for numpy's array constructor; the contents follow."""
    return PlainArray((0,))


def new_scalar(dtype: PlainDtype, data: bytes) -> Any:
    """Stands in for numpy's scalar constructor."""
    return np.frombuffer(data, dtype.dtype, count=1)[0]


def statistic(owner: object, name: str) -> Any:
    """Stands in for ``getattr``, with which mmengine's history names its own four statistics."""
    if owner is not history_class() or name not in ('min', 'max', 'mean', 'current'):
        raise UnpicklingError('GLOBAL builtins.getattr')
    return getattr(owner, name, None)


def history_class() -> type:
    """mmengine's record of losses where mmengine is in use, otherwise a dict."""
    module = sys.modules.get(HISTORY)
    return Settings if module is None else module.HistoryBuffer


def allowed_globals() -> list[tuple[Any, str]]:
    """What a checkpoint may name, each with the object that answers to it, for ``torch.serialization``."""
    numpy: list[tuple[Any, str]] = [(PlainDtype, 'numpy.dtype'), (PlainArray, 'numpy.ndarray')]
    for module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
        numpy += [(new_array, f'{module}._reconstruct'), (new_scalar, f'{module}.scalar')]
    history = [(history_class(), f'{HISTORY}.HistoryBuffer'), (statistic, 'builtins.getattr')]
    return [*numpy, *history, (dict, 'builtins.dict'), *((Settings, name) for name in SETTINGS)]


@contextmanager
def safe_globals() -> Iterator[None]:
    """Within this context, ``torch.load(..., weights_only=True)`` reads the checkpoints of common training codes.

    That is mmengine's (loss history, numpy scalars), those with settings of yacs or argparse, and nothing that runs
    code. Resuming needs the same: mmengine's history comes back as itself.
    """
    before, ours = torch.serialization.get_safe_globals(), allowed_globals()
    names = {name for _, name in ours}
    named = [
        (entry, entry[1] if isinstance(entry, tuple) else f'{entry.__module__}.{entry.__qualname__}')
        for entry in before
    ]
    others = [entry for entry, name in named if name not in names]
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals([*others, *ours])
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)
