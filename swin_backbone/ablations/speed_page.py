"""Table 5 as CSV, JSON, Markdown and one HTML page, with a plot: the paper's ratios beside ours."""

import csv
import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from swin_backbone.ablations.paper import REFERENCE, VARIANTS, Method
from swin_backbone.ablations.plots import draw_speeds
from swin_backbone.ablations.speed import Speeds, images_per_second, printed_slowness, slowness
from swin_backbone.benchmark import timing as speed
from swin_backbone.evaluation import page
from swin_backbone.evaluation.style import render
from swin_backbone.files import write_bytes, write_json

TITLE = 'Speed of the methods of self-attention (Swin paper, Table 5)'
BASELINES = ('sliding-naive', 'sliding-kernel', 'shifted-padding')
"""What the paper compares its shifted windows with."""

REMARK = (
    "The paper's: a V100, pictures of 224 x 224; the batch behind its milliseconds is not printed, so the ratios are "
    'what to compare. Times are relative to the shifted windows (cyclic): 2.0 takes twice as long.'
)
COLUMNS = (
    'method', 'part', 'median_ms', 'lower_quartile_ms', 'upper_quartile_ms', 'images_per_second', 'paper_value',
    'relative_time', 'paper_relative_time', 'peak_bytes',
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """A column of Table 5.

    Attributes:
        title: as the paper calls it.
        timings: ours, by method.
        index: its number among the stages, or among the networks.
        network: whether it is a network.
    """

    title: str
    timings: dict[str, speed.Timing]
    index: int
    network: bool

    def paper(self, method: Method) -> float:
        """The printed milliseconds or images per second."""
        return method.fps[self.index] if self.network else method.stage_ms[self.index]

    def ours(self, method: Method, batch: int) -> float:
        """The same, measured; not a number if it was not."""
        timing = self.timings.get(method.name)
        if timing is None:
            return float('nan')
        return images_per_second(timing, batch) if self.network else timing.median_ms

    def ratios(self, method: Method) -> tuple[float, float]:
        """Relative times, printed and measured."""
        return printed_slowness(method, self.index, self.network), slowness(self.timings, method.name)


def places(speeds: Speeds) -> list[Place]:
    """The columns that were measured."""
    stages = [Place(f'S{index + 1}', timings, index, False) for index, timings in enumerate(speeds.stages)]
    networks = [
        Place(f'Swin-{name[0].upper()}', timings, VARIANTS.index(name), True)
        for name, timings in speeds.networks.items()
    ]
    return stages + networks


def write_speed(folder: Path, speeds: Speeds) -> str:
    """Write ``table.csv``, ``table.json``, ``table.md``, ``index.html`` and ``plot.png``; returns the Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    text = as_markdown(speeds)
    write_bytes(folder / 'table.csv', as_csv(speeds).encode())
    write_bytes(folder / 'table.md', text.encode())
    write_json(folder / 'table.json', as_dict(speeds))
    write_bytes(folder / 'plot.png', render(partial(draw_speeds, panels(speeds))))
    write_bytes(folder / 'index.html', as_page(speeds).encode())
    return text


def as_dict(speeds: Speeds) -> dict[str, Any]:
    """Everything in plain values."""
    protocol = asdict(speeds.protocol)
    protocol['methods'] = [method.name for method in speeds.protocol.methods]
    timings = [asdict(timing) for place in places(speeds) for timing in place.timings.values()]
    return dict(protocol=protocol, environment=speeds.facts, timings=timings, left_out=speeds.left_out)


def as_csv(speeds: Speeds) -> str:
    """A line for each method and column."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator='\n')
    writer.writerow(COLUMNS)
    for method in speeds.protocol.methods:
        for place in places(speeds):
            timing = place.timings.get(method.name)
            if timing is None:
                continue
            low, high = timing.quartiles_ms
            rate = f'{images_per_second(timing, speeds.protocol.batch):.3f}' if place.network else ''
            printed, measured = place.ratios(method)
            times = [f'{value:.4f}' for value in (timing.median_ms, low, high)]
            ratios = [f'{measured:.4f}', f'{printed:.4f}']
            writer.writerow(
                [method.name, place.title, *times, rate, place.paper(method), *ratios, timing.peak_bytes or '']
            )
    return buffer.getvalue()


def tables(speeds: Speeds) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """The readable tables: caption, header, rows."""
    columns, batch = places(speeds), speeds.protocol.batch
    header = ['method', *(name for place in columns for name in (f'{place.title}, paper', 'here'))]
    values, ratios, spread = [], [], []
    for method in speeds.protocol.methods:
        values.append([method.title])
        ratios.append([method.title])
        spread.append([method.title])
        for place in columns:
            ours, timing = place.ours(method, batch), place.timings.get(method.name)
            values[-1] += [shown(place.paper(method), 0 if place.network else 1), shown(ours, 1)]
            ratios[-1] += [shown(value, 2) for value in place.ratios(method)]
            low, high = timing.quartiles_ms if timing else (float('nan'), float('nan'))
            spread[-1].append(f'{low:.2f} to {high:.2f}' if timing else '–')
    yield 'Self-attention in a stage (S1 to S4) in ms; networks in images per second', header, values
    yield 'Time relative to the shifted windows (cyclic)', header, ratios
    yield 'Quartiles here, in ms', ['method', *(place.title for place in columns)], spread


def shown(value: float, digits: int) -> str:
    """A number, or a dash where there is none."""
    return '–' if value != value else f'{value:.{digits}f}'


def sentences(speeds: Speeds) -> list[str]:
    """The paper's comparisons of its shifted windows, with ours."""
    lines = []
    titles = {method.name: method for method in speeds.protocol.methods}
    for name in BASELINES:
        if name in titles and name not in speeds.left_out:
            pairs = [(place.title, *place.ratios(titles[name])) for place in places(speeds)]
            text = ', '.join(f'{title} {ours:.2f} ({paper:.2f})' for title, paper, ours in pairs)
            lines.append(
                f'shifted windows (cyclic) against {titles[name].title}, times as fast here (and in the paper): {text}'
            )
    return lines + [f'{name} is left out: {reason.rstrip(".")}' for name, reason in speeds.left_out.items()]


def facts(speeds: Speeds) -> dict[str, str]:
    """What a reader must know."""
    return {
        'protocol': speeds.protocol.text(),
        'remark': REMARK,
        'machine and command': speed.describe(speeds.facts).replace('\n', '; '),
    }


def as_markdown(speeds: Speeds) -> str:
    """The tables with what a reader must know."""
    lines = [f'# {TITLE}', '']
    for caption, header, rows in tables(speeds):
        lines += [f'{caption}:', '', f'| {" | ".join(header)} |', f'|---|{"--:|" * (len(header) - 1)}']
        lines += [*(f'| {" | ".join(row)} |' for row in rows), '']
    lines += [f'- {line}' for line in sentences(speeds)]
    lines += [f'- {name}: {text}' for name, text in facts(speeds).items()]
    return '\n'.join(lines) + '\n'


def panels(speeds: Speeds) -> list[tuple[str, list[tuple[str, float, float]]]]:
    """For the plot: for each column the rows with relative times, printed and measured."""
    methods = speeds.protocol.methods
    return [(place.title, [(m.title, *place.ratios(m)) for m in methods]) for place in places(speeds)]


def as_page(speeds: Speeds) -> str:
    """The page with the plot and the tables."""
    alt = 'Time relative to the shifted windows (cyclic), in the paper and here'
    chart = page.Chart('plot', alt, partial(draw_speeds, panels(speeds)))
    items = [page.Table(caption, header, rows) for caption, header, rows in tables(speeds)]
    text = ' '.join(f'{line[0].upper()}{line[1:]}.' for line in sentences(speeds))
    tiles = {
        f'images/s, {place.title}, {REFERENCE}': images_per_second(place.timings[REFERENCE], speeds.protocol.batch)
        for place in places(speeds)
        if place.network and REFERENCE in place.timings
    }
    return page.render_page(TITLE, tiles, facts(speeds), [page.Section('Figures', text, [chart, *items])])
