"""Benchmark on a GPU within a time budget, the most important rows of :mod:`.gpu_rows` first."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from swin_backbone.attention.kernels.triton_launch import unavailable_reason
from swin_backbone.benchmark import timing
from swin_backbone.benchmark.gpu_rows import CORRECT, Kernels, Row, backbones
from swin_backbone.benchmark.gpu_targets import goals
from swin_backbone.errors import InputError, RunFailure
from swin_backbone.evaluation.tables import markdown_table
from swin_backbone.files import write_json, write_text


@dataclass
class Report:
    """The measured rows; ``gpu.md`` and ``gpu.json`` are written after each row.

    Attributes:
        folder: folder of the files.
        facts: see :func:`swin_backbone.benchmark.timing.environment`.
        plan: all rows, measured or not.
        cells: cells of the measured rows, by their index in the plan.
        left_out: rows that did not fit into the time budget.
    """

    folder: Path
    facts: dict[str, Any]
    plan: Sequence[Row]
    cells: dict[int, dict[str, Any]] = field(default_factory=dict)
    left_out: list[Row] = field(default_factory=list)

    def add(self, place: int, cells: dict[str, Any]) -> None:
        """Add a measured row and write the files."""
        self.cells[place] = {**self.plan[place].labels, **cells}
        print(', '.join(f'{name} {cell(value)}' for name, value in self.cells[place].items()), flush=True)
        self.write()

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Return the measured rows by the title of their table, in the order of the plan."""
        found: dict[str, list[dict[str, Any]]] = {}
        for place in sorted(self.cells):
            found.setdefault(self.plan[place].table, []).append(self.cells[place])
        return found

    def write(self) -> None:
        """Write both files."""
        tables = self.tables()
        aims = goals(tables)
        left_out = [row.name for row in self.left_out]
        parts = [f'# GPU\n\n{timing.describe(self.facts)}']
        parts += [table_text(title, rows) for title, rows in {'Goals on an H100': aims, **tables}.items()]
        if left_out:
            parts.append('## Not measured: no time left\n\n' + '\n'.join(f'- {name}' for name in left_out))
        write_text(self.folder / 'gpu.md', '\n\n'.join(parts) + '\n')
        content = dict(environment=self.facts, goals=aims, tables=tables, left_out=left_out)
        write_json(self.folder / 'gpu.json', content)


def table_text(title: str, rows: Sequence[dict[str, Any]]) -> str:
    """Format a section with a table, whose columns are those of all rows."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    body = [[cell(row.get(name)) for name in columns] for row in rows]
    return f'## {title}\n\n{markdown_table(columns, body)}'


def cell(value: Any) -> str:
    """Format a value for a table."""
    if isinstance(value, float):
        return f'{value:.1e}' if abs(value) < 0.01 else f'{value:.3g}' if abs(value) < 1000 else f'{value:.0f}'
    return '-' if value is None else str(value)


def run_rows(report: Report, budget: float, clock: Callable[[], float] = time.monotonic) -> None:
    """Measure the rows of ``report`` by rank, skipping those that would exceed ``budget`` seconds."""
    started = clock()
    for place, row in sorted(enumerate(report.plan), key=lambda pair: pair[1].rank):
        if clock() - started + row.seconds > budget:
            report.left_out.append(row)
            continue
        try:
            cells = row.measure()
        except Exception as error:  # out of memory, or any exception of third-party code
            cells = dict(error=f'{type(error).__name__}: {" ".join(str(error).split())[:200]}')
        report.add(place, cells)
    report.write()


def measure_gpu(folder: Path, budget: float, more: Iterable[Row] = ()) -> None:
    """Measure everything on the current GPU.

    Args:
        folder: where ``gpu.md`` and ``gpu.json`` are written.
        budget: time budget in seconds.
        more: rows in addition to those of the kernels and of whole backbones.

    Raises:
        InputError: if the kernels cannot run here, or the folder has results already.
        RunFailure: if a kernel is incorrect.
    """
    if reason := unavailable_reason(torch.device('cuda' if torch.cuda.is_available() else 'cpu')):
        raise InputError(
            f'benchmark gpu cannot run here: {reason}; run it on a machine where `doctor` reports Triton kernels.'
        )
    if (folder / 'gpu.json').exists():
        raise InputError(f'{folder} contains results of another run: give a new folder with --out.')
    torch.manual_seed(0)
    report = Report(folder, timing.environment('cuda'), [*Kernels().rows(), *backbones(), *more])
    run_rows(report, budget)
    wrong = [row for row in report.tables().get(CORRECT, []) if row.get('correct') != 'yes']
    if wrong:
        raise RunFailure(f'{len(wrong)} rows of the correctness table failed: see {folder / "gpu.md"}.')
