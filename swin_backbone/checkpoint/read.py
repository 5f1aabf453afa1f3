"""Read checkpoint files without running code from them, and report what is wrong with a broken one."""

import json
import os
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch

from swin_backbone.checkpoint.pickles import load_arrays, safe_globals
from swin_backbone.checkpoint.shards import Shards, check_shard, find_in_folder, read_index
from swin_backbone.errors import InputError

EXPECTED = 'expected a .pth or .safetensors checkpoint'
START = 512
MAX_HEADER = 100_000_000
INFLATION, ALLOWANCE = 100, 64 << 20
"""Contents may be this many times larger than the file, plus these bytes; real weights hardly compress."""
ARCHIVES = {b'\x1f\x8b': 'gzip', b'BZh': 'bzip2', b'\xfd7zXZ': 'xz', b'7z\xbc\xaf': '7z', b'Rar!': 'rar'}
ZIP = b'PK\x03\x04'
# Start of the files that torch.save writes with _use_new_zipfile_serialization=False.
TORCH_PICKLE = torch.serialization.MAGIC_NUMBER.to_bytes(10, 'little')


def read_checkpoint(path: Path) -> Mapping[Any, Any]:
    """Return the contents of a checkpoint, on the CPU; pickled code is never run.

    The format is recognised by the contents, not by the suffix: files of ``torch.save`` and of safetensors, pickles of
    numpy arrays (Detectron2's .pkl), .npz, and an index of shards or a folder with one of these.

    Raises:
        InputError: if the file does not exist, is not a checkpoint, is incomplete, or needs code to be run.
    """
    if path.is_dir():
        inside = find_in_folder(path)
        return read_shards(inside) if isinstance(inside, dict) else read_checkpoint(inside)
    check_shard(path)
    return read_file(path)


def read_file(path: Path) -> Mapping[Any, Any]:
    """Return the contents of one file."""
    start, size = read_start(path)
    # A safetensors file starts with the length of its JSON header and the header.
    if start[8:9] == b'{' and int.from_bytes(start[:8], 'little') < MAX_HEADER:
        return read_safetensors(path, start, size)
    if start.startswith(ZIP):
        names = names_in_archive(path, size)
        return read_npz(path) if names and all(name.endswith('.npy') for name in names) else read_pickle(path, True)
    if start.startswith(b'\x80'):
        return read_pickle(path, TORCH_PICKLE in start[:32])
    shards = read_index(path) if start.lstrip().startswith(b'{') else None
    if shards is not None:
        return read_shards(shards)
    if path.suffix == '.safetensors' and 0 < size <= 8:
        raise truncated(path, size)
    raise InputError(f'{path} is {describe(start, size)}: {EXPECTED}.')


def read_start(path: Path) -> tuple[bytes, int]:
    """Return the first bytes of a file and its size."""
    try:
        with open(path, 'rb') as file:
            return file.read(START), os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        raise InputError(f'{path} does not exist: {EXPECTED}; check the path.') from None
    except OSError as error:
        raise InputError(f'{path} cannot be read: {error.strerror}.') from error


def describe(start: bytes, size: int) -> str:
    """Describe a file that is not a checkpoint."""
    opening = start.lstrip().lower()
    if not size:
        return 'empty'
    if start.startswith(b'version https://git-lfs'):
        return 'a Git LFS pointer instead of the weights ("git lfs pull" fetches them)'
    if opening.startswith((b'<!doctype', b'<html', b'<?xml', b'<head')):
        return 'a web page, not weights (the server sent an error or login page; download the file again)'
    for magic, name in ARCHIVES.items():
        if start.startswith(magic):
            return f'a {name} archive (unpack it first)'
    if not start.strip(b'\x00'):
        return 'filled with zeros, as after an interrupted download (download it again)'
    text = start.decode('utf-8', 'replace')
    if '\x00' in text or '\ufffd' in text[:-4]:
        return f'not a checkpoint (it starts with {start[:8]!r})'
    return f'a text file (it starts with {text[:40]!r})'


def read_shards(shards: Shards) -> Mapping[str, Any]:
    """Return the tensors of several files."""
    together: dict[str, Any] = {}
    for path, names in shards.items():
        contents = read_file(path)
        absent = sorted(names - contents.keys())
        if absent:
            raise InputError(
                f'{path} does not contain {len(absent)} tensors that the index lists for it, such as {absent[0]}: '
                'download it again.'
            )
        together.update(contents)
    return together


def read_safetensors(path: Path, start: bytes, size: int) -> Mapping[str, Any]:
    """Return the tensors of a safetensors file."""
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
    """Return the error for a truncated file."""
    return InputError(f'{path} is incomplete: it is cut off after {size:,} bytes; download or copy it again.')


def names_in_archive(path: Path, size: int) -> list[str]:
    """Return the names in a zip archive; raise an error if it is incomplete, or neither PyTorch's nor numpy's."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError):
        raise truncated(path, size) from None
    check_inflation(path, size, sum(entry.file_size for entry in entries))
    names = [entry.filename for entry in entries]
    if any(name.endswith('/constants.pkl') for name in names):
        raise InputError(f'{path} is a TorchScript program, not a state dict: save model.state_dict() instead.')
    if not any(name.endswith(('/data.pkl', '.npy')) for name in names):
        raise InputError(f'{path} is a zip archive, not a checkpoint: unpack it and give a file in it.')
    return names


def check_inflation(path: Path, size: int, declared: int) -> None:
    """Raise an error for a file whose contents would need far more memory than its size, before it is allocated.

    Args:
        path: the file, for the error message.
        size: size of the file in bytes.
        declared: size of its contents in bytes.

    Raises:
        InputError: if the contents are too large.
    """
    if declared > INFLATION * size + ALLOWANCE:
        raise InputError(
            f'{path} is rejected: its {size:,} bytes would expand to {declared:,}, far more than real weights do. Get '
            'it from a source that you trust.'
        )


def tensors_in(node: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in nested dicts and lists."""
    if isinstance(node, torch.Tensor):
        yield node
    elif isinstance(node, (Mapping, list, tuple)):
        for child in node.values() if isinstance(node, Mapping) else node:
            yield from tensors_in(child)


def read_npz(path: Path) -> Mapping[str, Any]:
    """Return the arrays of an .npz file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (ValueError, OSError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f'{path} is damaged, or contains more than numbers ({error}): save it again.') from error


def read_pickle(path: Path, by_torch: bool) -> Mapping[Any, Any]:
    """Return the contents of a file of ``torch.save``, or of a pickle of numpy arrays."""
    try:
        with open(path, 'rb') as file:
            if by_torch:
                with safe_globals():  # pass an open file: given a path, PyTorch decides by the suffix
                    contents = torch.load(file, map_location='cpu', weights_only=True)
            else:
                contents = load_arrays(file)
    except UnpicklingError as error:
        raise refusal(path, error) from error
    except Exception as error:  # a damaged or crafted file can raise any error in the unpickler
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f'{path} is damaged or incomplete ({reason}): download or save it again.') from error
    if isinstance(contents, torch.Tensor) or not isinstance(contents, Mapping):
        raise InputError(f'{path} contains a {type(contents).__name__}, not a dict: save model.state_dict() instead.')
    # A tensor can have any shape over a few bytes of storage; copying it would allocate the full size.
    check_inflation(path, path.stat().st_size, sum(value.numel() * value.itemsize for value in tensors_in(contents)))
    return contents


def refusal(path: Path, error: UnpicklingError) -> InputError:
    """Return the error for a file that names globals that are not allowed."""
    named = re.search(r'GLOBAL (\S+)', str(error)) or re.search(r'function (.+)$', str(error).splitlines()[0])
    if named is None:
        reason = str(error).rpartition('WeightsUnpickler error: ')[2].strip().splitlines() or [type(error).__name__]
        return InputError(f'{path} is damaged or incomplete ({reason[0]}): download or save it again.')
    return InputError(
        f'{path} is rejected: reading it would need {named[1].rstrip(".")}, but only tensors and plain settings are '
        'read from a file. If you trust the file, load it with the code that wrote it, save only its state dict with '
        'torch.save, and use that file.'
    )
