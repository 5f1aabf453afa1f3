"""Write the tables as CSV, Markdown and an HTML page with a plot, with the paper's numbers next to ours."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from swin_backbone.ablations.paper_v1 import REFERENCE, Table
from swin_backbone.ablations.plots import draw_scores, draw_speeds
from swin_backbone.ablations.results import FINISHED, Outcome, Score, agreement, collect
from swin_backbone.ablations.speed import Speeds
from swin_backbone.benchmark import timing
from swin_backbone.evaluation import page
from swin_backbone.evaluation.style import render
from swin_backbone.evaluation.tables import csv_table, markdown_table
from swin_backbone.files import write_bytes, write_json, write_text

SCORES_CAPTION = (
    'In percent. "here" is the mean over seeds with the sample standard deviation; "difference" is relative to the '
    'default row (in Table 9, to the same network with SGD), for our numbers between runs with the same seed.'
)
SCORES_ALT = (
    'Each row in the paper and here: mean (dot), standard deviation (bar), single runs (ticks), default (dashed)'
)
SCORES_COLUMNS = (
    'run', 'title', 'metric', 'paper', 'paper_difference', 'mean', 'deviation', 'difference', 'difference_deviation',
    'runs', 'seeds', 'values', 'state',
)  # fmt: skip

SPEED_TITLE = 'Speed of the methods of self-attention (Swin paper, Table 5)'
SPEED_ALT = 'Time relative to the shifted windows (cyclic), in the paper and here'
SPEED_REMARK = (
    'The paper used a V100 and 224 x 224 images, and does not state the batch size for its milliseconds: compare the '
    'ratios. Times are relative to the shifted windows (cyclic): 2.0 is twice as long.'
)
SPEED_COLUMNS = (
    'method', 'part', 'median_ms', 'lower_quartile_ms', 'upper_quartile_ms', 'images_per_second', 'paper_value',
    'relative_time', 'paper_relative_time', 'peak_bytes',
)  # fmt: skip
BASELINES = ('sliding-naive', 'sliding-kernel', 'shifted-padding')
"""The methods that the paper compares its shifted windows with."""


def format_number(value: float | None, form: str, missing: str = '–') -> str:
    """Format a number; return ``missing`` for None and NaN."""
    return missing if value is None or value != value else format(value, form)


def write_files(
    folder: Path,
    title: str,
    chart: page.Chart,
    tables: Sequence[page.Table],
    remarks: Sequence[str],
    facts: dict[str, str],
    tiles: dict[str, float],
    sections: Sequence[page.Section] = (),
) -> str:
    """Write ``table.md``, ``plot.png`` and ``index.html``; return the Markdown."""
    blocks = [f'{table.caption}\n\n{markdown_table(table.header, table.rows)}' for table in tables]
    listed = [*remarks, *(f'{name}: {value}' for name, value in facts.items())]
    text = '\n\n'.join([f'# {title}', *blocks, '\n'.join(f'- {line}' for line in listed)]) + '\n'
    prose = ' '.join(f'{line[0].upper()}{line[1:]}.' for line in remarks)
    sections = [page.Section('Comparison', prose, [chart, *tables]), *sections]
    write_text(folder / 'table.md', text)
    write_bytes(folder / 'plot.png', render(chart.build))
    write_text(folder / 'index.html', page.render_page(title, tiles, facts, sections))
    return text


def write_tables(
    folder: Path, table: Table, metrics: Mapping[str, str], outcomes: Sequence[Outcome], facts: dict[str, str]
) -> list[Score]:
    """Write ``table.csv``, ``table.md``, ``index.html`` and ``plot.png`` for the runs so far; return the scores."""
    scores = collect(table, tuple(metrics), outcomes)
    by_metric = {label: [s for s in scores if s.metric == metric] for metric, label in metrics.items()}
    orders = {label: agreement(chosen) for label, chosen in by_metric.items()}
    tiles = {f'{label}, {chosen[0].title}': chosen[0].here.mean for label, chosen in by_metric.items()}
    for label, chosen in by_metric.items():
        default = next(score for score in chosen if score.is_default)
        tiles[f'{label}, {default.title}'] = default.here.mean
    done = sum(outcome.state == FINISHED for outcome in outcomes)
    write_text(folder / 'table.csv', csv_table(SCORES_COLUMNS, map(score_record, scores)))
    write_files(
        folder,
        table.title,
        page.Chart('plot', SCORES_ALT, partial(draw_scores, scores, metrics)),
        [score_table(table, by_metric)],
        [f'order by {label}: {order.text()}' for label, order in orders.items() if order.pairs],
        {'runs': f'{done} of {len(outcomes)} finished', **facts},
        tiles,
        [page.Section('Runs', '', [run_table(metrics, outcomes)])],
    )
    return scores


def score_record(score: Score) -> list[Any]:
    """Return a row of the CSV file for a score, with the value of every run; missing numbers are empty."""
    paper = [format_number(value, '.1f', '') for value in (score.paper, score.paper_difference)]
    spreads = (score.here.mean, score.here.deviation, score.difference.mean, score.difference.deviation)
    values = ' '.join(f'{value:.4f}' for value in score.here.values)
    seeds = ' '.join(map(str, score.seeds))
    numbers = [*paper, *(format_number(value, '.4f', '') for value in spreads)]
    return [score.run, score.title, score.metric, *numbers, len(score.seeds), seeds, values, score.state]


def score_table(table: Table, by_metric: dict[str, list[Score]]) -> page.Table:
    """Return the formatted table of scores."""
    measured = any(scores[0].metric == 'top1' for scores in by_metric.values())
    imagenet = not measured and any('top1' in row.paper for row in table.rows)
    header = ['row', *(['ImageNet top-1, paper'] if imagenet else [])]
    for label in by_metric:
        header += [f'{label}, paper', 'difference', f'{label}, here', 'difference']
    lines = []
    for row, *scores in zip(table.rows, *by_metric.values(), strict=True):
        line = [row.title, *([format_number(row.paper.get('top1'), '.1f')] if imagenet else [])]
        for score in scores:
            line += [
                format_number(score.paper, '.1f'),
                format_number(None if score.is_default else score.paper_difference, '+.1f'),
                score.here.text() or score.state,
                '' if score.is_default else score.difference.text(sign=True),
            ]
        lines.append([cell or '–' for cell in (*line, str(len(scores[-1].seeds)))])
    return page.Table(SCORES_CAPTION, [*header, 'runs'], lines)


def run_table(metrics: Mapping[str, str], outcomes: Sequence[Outcome]) -> page.Table:
    """Return the table of all runs with their scores."""
    lines = []
    for outcome in outcomes:
        scores = [100 * outcome.summary[name] if name in outcome.summary else None for name in metrics]
        facts = [str(outcome.summary.get(name, '–')) for name in ('iterations', 'seconds')]
        state = f'{outcome.state}: {outcome.remark}' if outcome.remark else outcome.state
        values = [*(format_number(score, '.2f') for score in scores), *facts]
        lines.append([outcome.run, str(outcome.seed), state, *values, outcome.folder])
    header = ('run', 'seed', 'state', *metrics.values(), 'iterations', 'seconds', 'folder')
    return page.Table('every run; scores in percent', header, lines)


def write_speed(folder: Path, speeds: Speeds) -> str:
    """Write ``table.csv``, ``table.json``, ``table.md``, ``index.html`` and ``plot.png``; return the Markdown."""
    methods, columns = speeds.protocol.methods, speeds.columns
    reference = next(method for method in methods if method.name == REFERENCE)
    panels = [(column.title, [(m.title, *column.ratios(m)) for m in methods]) for column in columns]
    write_text(folder / 'table.csv', csv_table(SPEED_COLUMNS, speed_records(speeds)))
    protocol = {**asdict(speeds.protocol), 'methods': [method.name for method in methods]}
    timings = [asdict(found) for column in columns for found in column.timings.values()]
    content = dict(protocol=protocol, environment=speeds.environment, timings=timings, left_out=speeds.left_out)
    write_json(folder / 'table.json', content)
    return write_files(
        folder,
        SPEED_TITLE,
        page.Chart('plot', SPEED_ALT, partial(draw_speeds, panels)),
        speed_tables(speeds),
        comparisons(speeds),
        {
            'protocol': speeds.protocol.text(),
            'remark': SPEED_REMARK,
            'machine and command': timing.describe(speeds.environment).replace('\n', '; '),
        },
        {
            f'images/s, {column.title}, {REFERENCE}': column.ours(reference, speeds.protocol.batch)
            for column in columns
            if column.network and REFERENCE in column.timings
        },
    )


def speed_records(speeds: Speeds) -> list[list[Any]]:
    """Return the rows of the CSV file, one for each method and column that was measured."""
    records: list[list[Any]] = []
    for method in speeds.protocol.methods:
        for column in speeds.columns:
            if method.name in column.timings:
                found = column.timings[method.name]
                times = [f'{value:.4f}' for value in (found.median_ms, *found.quartiles_ms)]
                rate = f'{column.ours(method, speeds.protocol.batch):.3f}' if column.network else ''
                printed, measured = (f'{ratio:.4f}' for ratio in column.ratios(method))
                numbers = [*times, rate, column.paper(method), measured, printed, found.peak_bytes or '']
                records.append([method.name, column.title, *numbers])
    return records


def speed_tables(speeds: Speeds) -> list[page.Table]:
    """Return the formatted tables of times, ratios and quartiles."""
    values, ratios, quartiles = [], [], []
    for method in speeds.protocol.methods:
        values.append([method.title])
        ratios.append([method.title])
        quartiles.append([method.title])
        for column in speeds.columns:
            printed, ours = column.paper(method), column.ours(method, speeds.protocol.batch)
            values[-1] += [f'{printed:.{0 if column.network else 1}f}', format_number(ours, '.1f')]
            ratios[-1] += [format_number(ratio, '.2f') for ratio in column.ratios(method)]
            found = column.timings.get(method.name)
            quartiles[-1].append('{:.2f} to {:.2f}'.format(*found.quartiles_ms) if found else '–')
    titles = [column.title for column in speeds.columns]
    header = ['method', *(name for title in titles for name in (f'{title}, paper', 'here'))]
    return [
        page.Table('Self-attention in a stage (S1 to S4) in ms; networks in images per second.', header, values),
        page.Table('Time relative to the shifted windows (cyclic).', header, ratios),
        page.Table('Quartiles here, in ms.', ['method', *titles], quartiles),
    ]


def comparisons(speeds: Speeds) -> list[str]:
    """Return sentences that compare the shifted windows with the paper's baselines, and list skipped methods."""
    lines = []
    for method in speeds.protocol.methods:
        if method.name in BASELINES and method.name not in speeds.left_out:
            pairs = [(column.title, *column.ratios(method)) for column in speeds.columns]
            text = ', '.join(f'{title} {format_number(ours, ".2f")} ({paper:.2f})' for title, paper, ours in pairs)
            lines.append(f'speed-up of shifted windows (cyclic) over {method.title}, here (and in the paper): {text}')
    return lines + [f'{name} was skipped: {reason.rstrip(".")}' for name, reason in speeds.left_out.items()]
