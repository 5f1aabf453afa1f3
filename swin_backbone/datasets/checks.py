"""What a data folder holds and what it lacks, piece by piece."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from swin_backbone.datasets.download import Archive

NAMED = 5
"""Missing files listed by name for each piece; the others are counted."""


@dataclass
class Piece:
    """One part of a data set: a folder or a file.

    Attributes:
        path: relative to the root.
        purpose: what needs it.
        archive: where it comes from.
        part: empty for what training and validation need; else the name of an extra that only some want.
        present: whether it is there at all.
        counts: what it holds, by name.
        published: what it holds as published, by name.
        missing: files that should be in it and are not.
        wrong: what else is not as it should be, a clause each.
    """

    path: str
    purpose: str
    archive: Archive
    part: str = ''
    present: bool = False
    counts: dict[str, int] = field(default_factory=dict)
    published: dict[str, int] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def needed(self) -> bool:
        """Whether training and validation need it."""
        return not self.part

    @property
    def whole(self) -> bool:
        """Whether nothing of it is missing or wrong."""
        return self.present and not self.missing and not self.wrong

    def lines(self) -> list[str]:
        """A line on what is there, and one for each thing that is not."""
        if not self.present:
            state = ', '.join(f'WRONG: {clause}' for clause in self.wrong)
            return [f'  {self.path}: {state or ("MISSING" if self.needed else "not there")}, for {self.purpose}']
        held = ', '.join(f'{count:,} {name}' for name, count in self.counts.items())
        less = [name for name, count in self.published.items() if self.counts.get(name, 0) < count]
        note = f' (an excerpt: published are {self._published(less)})' if less else ''
        lines = [f'  {self.path}: {held}{note}', *(f'    WRONG: {clause}' for clause in self.wrong)]
        if self.missing:
            more = f' and {len(self.missing) - NAMED:,} more' if len(self.missing) > NAMED else ''
            lines.append(f'    MISSING: {", ".join(self.missing[:NAMED])}{more}')
        return lines

    def _published(self, names: Iterable[str]) -> str:
        return ', '.join(f'{self.published[name]:,} {name}' for name in names)


def problems(pieces: Sequence[Piece]) -> list[str]:
    """Every needed piece that is missing or damaged, a clause each."""
    clauses = []
    for piece in pieces:
        if piece.whole or (not piece.needed and not piece.present):
            continue
        if not piece.present and not piece.wrong:
            clauses.append(f'{piece.path} is missing')
        elif piece.missing:
            clauses.append(f'{piece.path} lacks {len(piece.missing):,} files, the first is {piece.missing[0]}')
        clauses += [f'{piece.path} {clause}' for clause in piece.wrong]
    return clauses


def look_for_folder(root: Path, piece: Piece) -> None:
    """Whether the folder of a piece is there, and not something else in its place."""
    folder = root / piece.path
    piece.present = folder.is_dir()
    if not piece.present and folder.is_file():
        piece.wrong.append('is a file where a folder belongs (a link that a copy did not keep?)')


def picture_names(folder: Path, endings: tuple[str, ...] = ('.jpg',)) -> set[str]:
    """Names of the pictures in a folder."""
    return {path.name for path in folder.iterdir() if path.suffix.lower() in endings} if folder.is_dir() else set()
