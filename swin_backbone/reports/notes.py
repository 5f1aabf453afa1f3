"""What a config says about itself: the first line of its docstring, and labelled lines below."""

import ast
from dataclasses import dataclass
from pathlib import Path

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
