"""Tables in Markdown, CSV and text format."""

import csv
import io

from swin_backbone.evaluation.tables import csv_table, markdown_table, text_table

HEADER, ROWS = ('name', 'AP', 'state'), [('swin|tiny', 0.5, 'fin\nished'), ('b', 0.1 + 0.2, '')]


def test_markdown_escapes_pipes_and_newlines() -> None:
    assert markdown_table(HEADER, ROWS, left=(0, 2)).splitlines() == [
        '| name | AP | state |',
        '|---|--:|---|',
        r'| swin\|tiny | 0.5 | fin ished |',
        '| b | 0.30000000000000004 |  |',
    ]


def test_csv_keeps_full_precision() -> None:
    rows = list(csv.reader(io.StringIO(csv_table(HEADER, ROWS), newline='')))
    assert rows == [list(HEADER), ['swin|tiny', '0.5', 'fin\nished'], ['b', '0.30000000000000004', '']]
    assert float(rows[2][1]) == ROWS[1][1]


def test_text_is_aligned() -> None:
    text = text_table(('name', 'AP'), [('a', '50.5'), ('longer', '7.0')])
    assert text.splitlines() == ['name      AP', 'a       50.5', 'longer   7.0']
