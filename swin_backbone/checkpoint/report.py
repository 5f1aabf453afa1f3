"""What loading did, for the log and for the caller."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

BLOCK = re.compile(r'^layers\.(\d+)\.blocks\.(\d+)\.')
WHOLE_BLOCK = frozenset({'norm1.weight', 'attn.qkv.weight', 'attn.proj.weight', 'mlp.fc1.weight', 'mlp.fc2.weight'})
MAX_NAMES = 12
MAX_NOTES = 4


@dataclass(frozen=True)
class LoadReport:
    """What :func:`swin_backbone.load_pretrained` did.

    Attributes:
        source: what was read.
        dialect: the layout that was recognised.
        version: 1 or 2, of the weights.
        loaded: the parameters that now hold the file's values.
        total: how many parameters the backbone has.
        adapted: those of them that were resized, with how.
        new: parameters that the file is allowed to lack; they keep their initial values.
        dropped: what the file has for a backbone and this one does not need.
        beside: how many tensors the file has for other parts, such as a detector's heads, or as other copies.
        missing: parameters that the file should have had and has not (only without ``strict``).
        leftover: what the file has and nothing here takes (only without ``strict``).
        misfits: parameters whose shapes differ, with how (only without ``strict``).
        warnings: what the user should know although all is loaded.
    """

    source: str
    dialect: str
    version: int
    loaded: tuple[str, ...]
    total: int
    adapted: dict[str, str] = field(default_factory=dict)
    new: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    beside: int = 0
    missing: tuple[str, ...] = ()
    leftover: tuple[str, ...] = ()
    misfits: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether the file covers the backbone and has nothing to spare."""
        return not (self.missing or self.leftover or self.misfits)

    def __str__(self) -> str:
        parts = [f'loaded {len(self.loaded)} of {self.total} parameters from {self.source} ({self.dialect} layout, ']
        parts[0] += f'Swin V{self.version})'
        if self.adapted:
            parts.append(f'adapted: {notes(self.adapted)}')
        for title, names in (('new', self.new), ('dropped', self.dropped)):
            if names:
                parts.append(f'{title}: {brief(names)}')
        if self.beside:
            parts.append(f'not looked at: {self.beside} tensors beside the backbone')
        return '; '.join([*parts, *self.problems()])

    def problems(self) -> list[str]:
        """What is wrong, one clause a kind."""
        out = []
        if self.missing:
            out.append(f'missing {len(self.missing)}: {collapse(self.missing)}')
        if self.misfits:
            out.append(f'of other shapes {len(self.misfits)}: {examples(self.misfits)}')
        if self.leftover:
            out.append(f'left over {len(self.leftover)}: {collapse(self.leftover)}')
        return out


def notes(noted: dict[str, str]) -> str:
    """Names with a note each, names that share one together."""
    groups: dict[str, list[str]] = {}
    for name, note in noted.items():
        groups.setdefault(note, []).append(name)
    return shorten([f'{collapse(names)} ({note})' for note, names in groups.items()], MAX_NOTES)


def examples(noted: dict[str, str]) -> str:
    """One name for each note, for notes that nearly all names have."""
    firsts = {note: name for name, note in reversed(noted.items())}
    return shorten([f'{name} ({note})' for note, name in reversed(firsts.items())], MAX_NOTES)


def brief(names: Iterable[str]) -> str:
    """Names by their last or first part, with how often: for what is not worth a list."""
    counts: dict[str, int] = {}
    for name in names:
        parts = name.split('.')
        start = '.'.join(parts[:2]) if parts[0] == 'layers' else parts[0]
        kind = parts[-1] if parts[-1].startswith(('relative_', 'attn_mask')) else start
        counts[kind] = counts.get(kind, 0) + 1
    return ', '.join(kind if count <= 2 else f'{kind} x{count}' for kind, count in counts.items())


def collapse(names: Iterable[str]) -> str:
    """Names with those of many blocks drawn together, as in ``layers.2.blocks.6-17.*``."""
    blocks: dict[tuple[int, int], list[str]] = {}
    listed: list[str] = []
    for name in names:
        match = BLOCK.match(name)
        if match is None:
            listed.append(name)
        else:
            blocks.setdefault((int(match[1]), int(match[2])), []).append(name[match.end() :])
    alike: dict[str, list[tuple[int, int]]] = {}
    for place, rests in blocks.items():
        whole = WHOLE_BLOCK.issubset(rests)
        for rest in ['*'] if whole else rests:
            alike.setdefault(rest, []).append(place)
    return shorten([*(spread(places, rest) for rest, places in alike.items()), *listed], MAX_NAMES)


def spread(places: list[tuple[int, int]], rest: str) -> str:
    """The names that end in ``rest`` in the blocks at ``places`` (stage, block)."""
    if len(places) <= 2:
        return ', '.join(f'layers.{stage}.blocks.{block}.{rest}' for stage, block in places)
    stages, blocks = {stage for stage, _ in places}, [block for _, block in places]
    if len(stages) > 1:
        return f'layers.*.blocks.*.{rest} (x{len(places)})'
    one_run = max(blocks) - min(blocks) == len(blocks) - 1
    numbers = f'{min(blocks)}-{max(blocks)}' if one_run else f'*.{rest} (x{len(places)})'
    return f'layers.{stages.pop()}.blocks.{numbers}' + (f'.{rest}' if one_run else '')


def shorten(items: list[str], most: int) -> str:
    """Items joined, the far end of a long list only counted."""
    more = len(items) - most
    return ', '.join(items[:most]) + (f' and {more} more' if more > 0 else '')
