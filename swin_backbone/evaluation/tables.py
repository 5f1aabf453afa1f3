"""Tables as Markdown, as CSV and as aligned text.

A table consists of a ``header`` and ``rows`` with one cell per column. Cells are converted with ``str``, so numbers
should be formatted before. Columns with an index in ``left`` (by default the first one) are aligned left, others right.
"""

import csv
import io
from collections.abc import Collection, Iterable, Sequence
from typing import Any

Row = Sequence[Any]


def markdown_table(header: Row, rows: Iterable[Row], left: Collection[int] = (0,)) -> str:
    """Format a table for Markdown, without a newline at the end; cells may contain Markdown."""
    rule = ['---' if column in left else '--:' for column in range(len(header))]
    body = [[' '.join(str(cell).split()).replace('|', r'\|') for cell in row] for row in (header, *rows)]
    return '\n'.join([f'| {" | ".join(body[0])} |', f'|{"|".join(rule)}|', *(f'| {" | ".join(r)} |' for r in body[1:])])


def csv_table(header: Row, rows: Iterable[Row]) -> str:
    """Format a table as CSV; numbers keep their full precision."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator='\n').writerows([header, *rows])
    return buffer.getvalue()


def text_table(header: Row, rows: Iterable[Row], left: Collection[int] = (0,)) -> str:
    """Format a table for a terminal, without a newline at the end."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = (
        '  '.join(cell.ljust(width) if i in left else cell.rjust(width) for i, (cell, width) in enumerate(pairs))
        for pairs in (zip(row, widths, strict=True) for row in cells)
    )
    return '\n'.join(line.rstrip() for line in lines)
