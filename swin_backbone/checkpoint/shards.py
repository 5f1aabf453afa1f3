"""Sharded weights: an index of tensors and files, or numbered files in a folder."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from swin_backbone.errors import InputError

SHARD = re.compile(r'(?P<stem>.+)-(?P<number>\d+)-of-(?P<total>\d+)(?P<suffix>\.\w+)')
# Names in folders of Hugging Face libraries; the first that exists is read.
USUAL = (
    'model.safetensors.index.json',
    'model.safetensors',
    'pytorch_model.bin.index.json',
    'pytorch_model.bin',
)
WEIGHTS = ('.pth', '.pt', '.bin', '.ckpt', '.pkl', '.npz', '.safetensors')

MAX_INDEX = 100_000_000
"""Largest size of an index in bytes, far above that of any real model."""

Shards = dict[Path, frozenset[str]]
"""The files, each with the names of the tensors that must be in it."""


def find_in_folder(folder: Path) -> Path | Shards:
    """Return the file in ``folder`` that contains or lists its weights, or its numbered shards.

    Raises:
        InputError: if there is no such file, it is ambiguous, or a shard is missing.
    """
    names = sorted(path.name for path in folder.iterdir())
    usual = [name for name in USUAL if name in names] or [name for name in names if name.endswith('.index.json')]
    if usual:
        return folder / usual[0]
    sets = {(m['stem'], m['total'], m['suffix']) for name in names if (m := SHARD.fullmatch(name))}
    if len(sets) == 1:
        stem, total, suffix = sets.pop()
        numbers = (str(number).zfill(len(total)) for number in range(1, int(total) + 1))
        return check_present(
            {folder / f'{stem}-{number}-of-{total}{suffix}': frozenset() for number in numbers}, folder
        )
    inside = [name for name in names if name.endswith(WEIGHTS)]
    hint = (
        f'give a file in it, such as {folder / inside[0]}' if inside else 'expected a .pth or .safetensors checkpoint'
    )
    raise InputError(f'{folder} is a folder: {hint}.')


def read_index(index: Path) -> Shards | None:
    """Return the shards that an index file lists; None if it is not an index.

    Raises:
        InputError: if one of them is missing, or not in the folder of the index.
    """
    if index.stat().st_size > MAX_INDEX:
        return None
    try:
        weight_map = json.loads(index.read_bytes())['weight_map']
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(weight_map, Mapping) or not all(isinstance(name, str) for name in weight_map.values()):
        return None
    shards: Shards = {}
    for file in dict.fromkeys(weight_map.values()):
        if Path(file).name != file:
            raise InputError(f'{index} lists {file!r}: expected names of files in the same folder.')
        shards[index.parent / file] = frozenset(name for name, place in weight_map.items() if place == file)
    return check_present(shards, index)


def check_present(shards: Shards, source: Path) -> Shards:
    """Return ``shards`` if all of them exist."""
    absent = [path.name for path in shards if not path.is_file()]
    if absent:
        raise InputError(
            f'{source} needs {len(shards)} files, and {len(absent)} of them are missing: {", ".join(absent[:3])}'
            f'{", …" if len(absent) > 3 else ""}; put them into the same folder as the others.'
        )
    return shards


def check_shard(path: Path) -> None:
    """Raise an error if ``path`` is one of several shards, which contains only a part of the weights."""
    match = SHARD.fullmatch(path.name)
    if match and int(match['total']) > 1:
        raise InputError(f'{path} is one of {int(match["total"])} shards: give the folder {path.parent}, or its index.')
