"""Bringing a public data set into place: download what is missing, check everything, say how to train on it."""

import shlex
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from swin_backbone.datasets.ade20k import check_ade20k
from swin_backbone.datasets.checks import Piece, problems
from swin_backbone.datasets.coco import check_coco
from swin_backbone.datasets.download import Archive, download, unpack
from swin_backbone.errors import InputError

DOWNLOADS = '.downloads'


@dataclass(frozen=True)
class DataSet:
    """A public data set that the recipes train on.

    Attributes:
        name: as the command line calls it.
        root: where the configs look for it.
        check: lists its pieces under a root.
        train_config: the recipe to try first.
        parts: extras that only some want.
        unpacked_to: folder under the root into which an archive is unpacked, by its file name, if not the root.
    """

    name: str
    root: str
    check: Callable[[Path], list[Piece]]
    train_config: str
    parts: tuple[str, ...]
    unpacked_to: dict[str, str]


DATA_SETS = {
    'coco': DataSet(
        'coco',
        'data/coco',
        check_coco,
        'configs/detection/cascade_swin_t_3x.py',
        ('test', 'stuff'),
        {'stuffthingmaps_trainval2017.zip': 'stuffthingmaps'},
    ),
    'ade20k': DataSet(
        'ade20k',
        'data/ade/ADEChallengeData2016',
        check_ade20k,
        'configs/segmentation/upernet_swin_t_160k.py',
        ('test',),
        {'release_test.zip': 'images'},
    ),
}


def prepare(data_set: DataSet, root: Path, fetch: bool, extras: Collection[str] = ()) -> list[str]:
    """Download what is missing if asked to, and check what is there.

    Args:
        data_set: one of :data:`DATA_SETS`.
        root: its folder.
        fetch: whether to download.
        extras: parts to download beside what training needs.

    Returns:
        Lines for the reader, ending with the command that trains on it.

    Raises:
        InputError: something needed is missing; every piece is named.
    """
    if fetch:
        for archive in archives_of(data_set.check(root), extras):
            fetch_archive(archive, root, data_set.unpacked_to.get(archive.name, ''))
    pieces = data_set.check(root)
    lines = [f'{root}:', *(line for piece in pieces for line in piece.lines())]
    clauses = problems(pieces)
    if clauses:
        raise IncompleteError(lines, incomplete_sentence(data_set, root, clauses))
    config, where = data_set.train_config, shlex.quote(str(root))
    return [*lines, 'complete; train on it with:', f'  swin-backbone train {config} --data-root {where}']


class IncompleteError(InputError):
    """A data set that cannot be trained on.

    Attributes:
        lines: the whole account, for the reader.
    """

    def __init__(self, lines: Sequence[str], sentence: str) -> None:
        super().__init__(sentence)
        self.lines = list(lines)


def incomplete_sentence(data_set: DataSet, root: Path, clauses: Sequence[str]) -> str:
    """What is missing and what to do."""
    command = f'swin-backbone prepare-data {data_set.name} --root {shlex.quote(str(root))} --download'
    return (
        f'{root} is no complete {data_set.name} data set: {"; ".join(clauses)}. Fetch what is missing with {command}.'
    )


def archives_of(pieces: Sequence[Piece], extras: Collection[str]) -> list[Archive]:
    """The archives that hold what is missing, each once."""
    wanted = [piece.archive for piece in pieces if not piece.whole and (piece.needed or piece.part in extras)]
    return list(dict.fromkeys(wanted))


def fetch_archive(archive: Archive, root: Path, folder: str) -> None:
    """Download and unpack an archive, and remove it, which is as large again as what was unpacked."""
    downloads = root / DOWNLOADS
    path = download(archive, downloads)
    unpack(path, root / folder, archive.strip)
    path.unlink()
    if not any(downloads.iterdir()):
        shutil.rmtree(downloads)
