"""Weights in several files: an index of tensors and files, or numbered files in a folder."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from swin_backbone.errors import InputError

SHARD = re.compile(r'(?P<stem>.+)-(?P<number>\d+)-of-(?P<total>\d+)(?P<suffix>\.\w+)')
# What a folder of Hugging Face's library holds: the first of them that is there is read.
USUAL = (
    'model.safetensors.index.json',
    'model.safetensors',
    'pytorch_model.bin.index.json',
    'pytorch_model.bin',
)
WEIGHTS = ('.pth', '.pt', '.bin', '.ckpt', '.pkl', '.npz', '.safetensors')

MAX_INDEX = 100_000_000
"""Bytes; the index of a model of a trillion parameters has a thousandth of it."""

Shards = dict[Path, frozenset[str]]
"""The files, each with the names of the tensors that must be in it."""


def find_in_folder(folder: Path) -> Path | Shards:
    """The file in ``folder`` that holds or lists its weights, or its numbered shards.

    Raises:
        InputError: it is not clear which file is meant, or a shard is missing.
    """
    names = sorted(path.name for path in folder.iterdir())
    usual = [name for name in USUAL if name in names] or [name for name in names if name.endswith('.index.json')]
    if usual:
        return folder / usual[0]
    sets = {(m['stem'], m['total'], m['suffix']) for name in names if (m := SHARD.fullmatch(name))}
    if len(sets) == 1:
        stem, total, suffix = sets.pop()
        numbers = (str(number).zfill(len(total)) for number in range(1, int(total) + 1))
        return check_present({folder / f'{stem}-{number}-of-{total}{suffix}': frozenset() for number in numbers}, folder)
    inside = [name for name in names if name.endswith(WEIGHTS)]
    hint = (
        f'name a file in it, such as {folder / inside[0]}' if inside else 'expected a .pth or .safetensors checkpoint'
    )
    raise InputError(f'{folder} is a folder: {hint}.')


def read_index(index: Path) -> Shards | None:
    """The shards that an index file lists; None if it is no index.

    Raises:
        InputError: one of them is missing, or not beside the index.
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
            raise InputError(f'{index} names {file!r}: expected names of files beside it.')
        shards[index.parent / file] = frozenset(name for name, place in weight_map.items() if place == file)
    return check_present(shards, index)


def check_present(shards: Shards, source: Path) -> Shards:
    """``shards``, if all of them are there."""
    absent = [path.name for path in shards if not path.is_file()]
    if absent:
        raise InputError(
            f'{source} needs {len(shards)} files, and {len(absent)} of them are missing: {", ".join(absent[:3])}'
            f'{", …" if len(absent) > 3 else ""}; put them beside the others.'
        )
    return shards


def check_shard(path: Path) -> None:
    """Refuse one of several shards by itself: the rest of the weights is in the others."""
    match = SHARD.fullmatch(path.name)
    if match and int(match['total']) > 1:
        raise InputError(f'{path} is one of {int(match["total"])} shards: give the folder {path.parent}, or its index.')
