"""The configs as tables: what they cost beside what was published, and what they say about themselves."""

import ast
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swin_backbone.engine.config import load_config
from swin_backbone.files import installed_configs
from swin_backbone.model_zoo.complexity import BOX_ROIS, MASK_ROIS, Complexity, default_shape, measure
from swin_backbone.model_zoo.published import PUBLISHED, Published

LABELS = ('Source', 'Original', 'Expected', 'Size', 'Ours')
"""Where the recipe is from; how it was trained there; its score, and how sure that is; its cost; what is our choice."""


@dataclass(frozen=True)
class Notes:
    """The docstring of a config.

    Attributes:
        title: its first line, without the full stop.
        lines: text by label, for the :data:`LABELS` that it has.
    """

    title: str
    lines: dict[str, str]


def read_notes(path: Path) -> Notes:
    """The notes of a config file; empty ones if it has no docstring."""
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ''
    title, _, body = docstring.partition('\n')
    lines: dict[str, str] = {}
    label = ''
    for line in body.splitlines():
        start, colon, rest = line.partition(': ')
        if colon and start in LABELS:
            label, lines[start] = start, rest
        elif label and line:
            lines[label] += f' {line}'
    return Notes(title.rstrip('.'), lines)


DEMO = '_demo'
SECTIONS = {'detection': 'Object detection and instance segmentation', 'segmentation': 'Semantic segmentation'}
HEADING = ('config', 'picture', 'parameters', 'published', 'differs', 'multiply-adds', 'published', 'differs')
NOTE_LABELS = ('Source', 'Original', 'Expected', 'Ours')
INTRODUCTION = f"""\
# Model zoo

Written by `make model-zoo` from the configs and their docstrings; change those, not this file.

Parameters (M, millions) and multiply-adds (G, 10^9, each counted once) are counted as in the papers: window padding and
the products inside attention are in them; a detector sees {BOX_ROIS} regions in every box stage and {MASK_ROIS} in the
mask head of every stage; the auxiliary head of a segmenter is among the parameters and not among the multiply-adds;
Sparse R-CNN's products with predicted weights are left out. Pictures are height x width. Published figures are rounded
to whole M and G. This package's attention projects no padding, and so costs a little less than is said here.

No model has been trained here yet: what is expected is what was published, and as sure as each entry says. What every
config does with a few pictures stands in [configs_checked.md](configs_checked.md).
"""


@dataclass(frozen=True)
class Entry:
    """One config.

    Attributes:
        path: its file, as the user wrote it.
        cost: what its network costs.
        published: what was published about that, if anything.
        notes: what the file says.
    """

    path: Path
    cost: Complexity
    published: Published | None
    notes: Notes


def find_configs() -> list[Path]:
    """The installed configs, the demos left out."""
    return [path for path in installed_configs().values() if not path.stem.endswith(DEMO)]


def make_entry(path: Path, shape: tuple[int, int] | None = None, config: Any = None) -> Entry:
    """Count one config; published figures stand beside it only where they are about the same picture.

    Args:
        path: its file.
        shape: height and width of the picture in pixels; the papers' by default.
        config: what the file holds, if it has been read.

    Raises:
        InputError: it cannot be read or counted.
    """
    config = load_config(str(path), None) if config is None else config
    cost = measure(config, shape)
    published = PUBLISHED.get(path.stem) if cost.shape == default_shape(config) else None
    return Entry(path, cost, published, read_notes(path))


def as_dict(entry: Entry) -> dict[str, Any]:
    """One config in plain numbers; None where nothing was published."""
    published = entry.published
    return dict(
        config=str(entry.path),
        shape=list(entry.cost.shape),
        params=entry.cost.params,
        flops=entry.cost.flops,
        paper_params=published and published.params,
        paper_flops=published and published.flops,
    )


def cells(entry: Entry) -> tuple[str, ...]:
    """One config as the cells under :data:`HEADING`."""
    cost, published = entry.cost, entry.published
    row = [entry.path.stem, f'{cost.shape[0]}x{cost.shape[1]}']
    for ours, unit, theirs in (
        (cost.params, 'M', published and published.params),
        (cost.flops, 'G', published and published.flops),
    ):
        scale = {'M': 1e6, 'G': 1e9}[unit]
        row.append(f'{ours / scale:.1f}{unit}')
        row += [f'{theirs / scale:.0f}{unit}', difference(ours, theirs)] if theirs else ['-', '-']
    return tuple(row)


def difference(ours: int, theirs: int) -> str:
    """By how much a count differs from a published one."""
    return f'{round(ours / theirs - 1, 3) + 0.0:+.1%}'  # adding 0 turns a rounded -0 into 0


def size_text(entry: Entry) -> str:
    """One config as the 'Size' line of its docstring."""
    _, picture, params, paper_params, _, flops, paper_flops, _ = cells(entry)
    published = f'published: {paper_params}, {paper_flops}' if entry.published else 'not published'
    return f'{params} parameters, {flops} multiply-adds at {picture} ({published}).'


def as_text(entries: Sequence[Entry]) -> str:
    """A table for the terminal, with remarks below."""
    rows = [HEADING, *map(cells, entries)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        '  '.join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
    return '\n'.join(lines + [f'{entry.path.stem}: {remark(entry)}' for entry in entries if remark(entry)])


def remark(entry: Entry) -> str:
    """What a reader must know about the published figures; empty where there is nothing."""
    return entry.published.remark if entry.published else ''


def as_markdown(entries: Sequence[Entry], folder: Path) -> str:
    """The page of all configs, with links from ``folder``."""
    parts = [INTRODUCTION]
    for task, title in SECTIONS.items():
        chosen = [entry for entry in entries if entry.path.parent.name == task]
        if chosen:
            parts += [f'## {title}\n', markdown_table(chosen), *(describe(entry, folder) for entry in chosen)]
    return '\n'.join(parts)


def markdown_table(entries: Sequence[Entry]) -> str:
    """A table whose first column leads to the description below it."""
    lines = ['| ' + ' | '.join(HEADING) + ' |', '|---|' + '--:|' * (len(HEADING) - 1)]
    lines += [f'| [{row[0]}](#{row[0]}) | ' + ' | '.join(row[1:]) + ' |' for row in map(cells, entries)]
    return '\n'.join(lines) + '\n'


def describe(entry: Entry, folder: Path) -> str:
    """What a config says about itself."""
    link = Path(os.path.relpath(entry.path, folder)).as_posix()
    lines = [f'### {entry.path.stem}\n', f'{entry.notes.title} ([config]({link})).\n']
    lines += [f'- {label}: {entry.notes.lines[label]}' for label in NOTE_LABELS if label in entry.notes.lines]
    if remark(entry):
        lines.append(f'- Size: {remark(entry)}.')
    return '\n'.join(lines) + '\n'
