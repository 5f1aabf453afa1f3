"""A table of scores as CSV, Markdown and one HTML page, with a plot: the paper's figures beside ours."""

import csv
import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from swin_backbone.ablations.paper import DEFAULT_RUN, Table, Task
from swin_backbone.ablations.plots import draw_scores
from swin_backbone.ablations.results import (
    FINISHED,
    Agreement,
    Figure,
    Outcome,
    agreement,
    collect,
)
from swin_backbone.evaluation import page
from swin_backbone.evaluation.style import render
from swin_backbone.files import write_bytes

CAPTION = (
    'In percent. "here" is the mean over seeds with the sample standard deviation; "difference" is to the default row, '
    'for ours between runs of the same seed.'
)
COLUMNS = (
    'run', 'title', 'metric', 'paper', 'paper_difference', 'mean', 'deviation', 'difference', 'difference_deviation',
    'runs', 'seeds', 'values', 'state',
)  # fmt: skip


def write_tables(
    folder: Path, table: Table, task: Task, outcomes: Sequence[Outcome], facts: dict[str, Any]
) -> list[Figure]:
    """Write ``table.csv``, ``table.md``, ``index.html`` and ``plot.png``, with what there is so far; the figures."""
    figures = collect(table, tuple(task.metrics), outcomes)
    orders = {label: agreement(of_metric(figures, metric)) for metric, label in task.metrics.items()}
    done = sum(outcome.state == FINISHED for outcome in outcomes)
    facts = {'runs': f'{done} of {len(outcomes)} finished', **facts}
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / 'table.csv', as_csv(figures).encode())
    write_bytes(folder / 'table.md', as_markdown(table, task, figures, orders, facts).encode())
    write_bytes(folder / 'plot.png', render(partial(draw_scores, figures, task.metrics)))
    write_bytes(folder / 'index.html', as_page(table, task, figures, orders, outcomes, facts).encode())
    return figures


def of_metric(figures: Sequence[Figure], metric: str) -> list[Figure]:
    """The figures of one metric."""
    return [figure for figure in figures if figure.metric == metric]


def as_csv(figures: Sequence[Figure]) -> str:
    """A line for each row and metric, with every run's value; nothing where there is no number."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator='\n')
    writer.writerow(COLUMNS)
    for figure in figures:
        spreads = (figure.here.mean, figure.here.deviation, figure.difference.mean, figure.difference.deviation)
        numbers = ['' if value is None or value != value else f'{value:.4f}' for value in spreads]
        paper = ['' if v is None else f'{v:.1f}' for v in (figure.paper, figure.paper_difference)]
        values = ' '.join(f'{value:.4f}' for value in figure.here.values)
        seeds = ' '.join(map(str, figure.seeds))
        writer.writerow(
            [figure.run, figure.title, figure.metric, *paper, *numbers, len(figure.seeds), seeds, values, figure.state]
        )
    return buffer.getvalue()


def header(task: Task) -> list[str]:
    """The names of the columns of the readable table."""
    names = ['row', 'ImageNet top-1, paper']
    for label in task.metrics.values():
        names += [f'{label}, paper', 'difference', f'{label}, here', 'difference']
    return [*names, 'runs']


def cells(table: Table, task: Task, figures: Sequence[Figure]) -> list[list[str]]:
    """The readable table."""
    rows = []
    for number, row in enumerate(table.rows):
        imagenet = row.paper.get('imagenet')
        line = [row.title, f'{imagenet:.1f}' if imagenet else '–']
        default = row.run == DEFAULT_RUN
        for metric in task.metrics:
            figure = of_metric(figures, metric)[number]
            line += [
                '–' if figure.paper is None else f'{figure.paper:.1f}',
                '–' if figure.paper_difference is None or default else f'{figure.paper_difference:+.1f}',
                figure.here.text() or figure.state,
                '–' if default else figure.difference.text(sign=True) or '–',
            ]
        figure = of_metric(figures, next(iter(task.metrics)))[number]
        rows.append([*line, str(len(figure.seeds))])
    return rows


def as_markdown(
    table: Table, task: Task, figures: Sequence[Figure], orders: dict[str, Agreement], facts: dict[str, Any]
) -> str:
    """The table with what a reader must know."""
    names = header(task)
    lines = [f'# {table.title}', '', f'| {" | ".join(names)} |', f'|---|{"--:|" * (len(names) - 1)}']
    lines += [f'| {" | ".join(line)} |' for line in cells(table, task, figures)]
    lines += ['', CAPTION, '']
    lines += [f'- order by {label}: {order.text()}' for label, order in orders.items() if order.pairs]
    lines += [f'- {name}: {value}' for name, value in facts.items()]
    return '\n'.join(lines) + '\n'


def as_page(
    table: Table,
    task: Task,
    figures: Sequence[Figure],
    orders: dict[str, Agreement],
    outcomes: Sequence[Outcome],
    facts: dict[str, Any],
) -> str:
    """The page with the plot, the table and every run."""
    alt = 'Each row in the paper and here: mean (dot), standard deviation (bar), every run (strokes), default (dashed)'
    chart = page.Chart('plot', alt, partial(draw_scores, figures, task.metrics))
    scores = page.Table(CAPTION, header(task), cells(table, task, figures))
    order = ' '.join(f'By {label}, {order.text()}.' for label, order in orders.items() if order.pairs)
    columns = ('run', 'seed', 'state', *task.metrics.values(), 'iterations', 'seconds', 'folder')
    runs = page.Table('every run; figures in percent', columns, [run_line(outcome, task) for outcome in outcomes])
    sections = [page.Section('Figures', order, [chart, scores]), page.Section('Runs', '', [runs])]
    tiles = {label: of_metric(figures, metric)[0].here.mean for metric, label in task.metrics.items()}
    shown = {f'{label}, {table.rows[0].title}': value for label, value in tiles.items()}
    for metric, label in task.metrics.items():
        default = next(figure for figure in of_metric(figures, metric) if figure.run == DEFAULT_RUN)
        shown[f'{label}, {default.title}'] = default.here.mean
    return page.render_page(table.title, shown, facts, sections)


def run_line(outcome: Outcome, task: Task) -> list[Any]:
    """One run as cells."""
    figures = [f'{100 * outcome.summary[metric]:.2f}' if metric in outcome.summary else '–' for metric in task.metrics]
    facts = [str(outcome.summary.get(name, '–')) for name in ('iterations', 'seconds')]
    state = f'{outcome.state}: {outcome.remark}' if outcome.remark else outcome.state
    return [outcome.run, str(outcome.seed), state, *figures, *facts, outcome.folder]
