"""From the summaries of an ablation's runs to the figures of its table."""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from swin_backbone.ablations.paper import DEFAULT_RUN, Table

FINISHED = 'finished'


@dataclass(frozen=True)
class Outcome:
    """What became of one run.

    Attributes:
        run: its name.
        seed: its seed.
        state: 'finished', or why there are no figures.
        summary: its ``summary.json``; empty unless it is finished.
        folder: where it is.
        remark: more about the state.
    """

    run: str
    seed: int
    state: str
    summary: Mapping[str, Any] = field(default_factory=dict)
    folder: str = ''
    remark: str = ''


@dataclass(frozen=True)
class Spread:
    """Some values in percent.

    Attributes:
        values: one per seed.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Their mean; not a number if there are none."""
        return statistics.fmean(self.values) if self.values else float('nan')

    @property
    def deviation(self) -> float:
        """Their sample standard deviation; not a number for fewer than two."""
        return statistics.stdev(self.values) if len(self.values) > 1 else float('nan')

    def text(self, sign: bool = False) -> str:
        """Mean and deviation, as far as there are any."""
        if not self.values:
            return ''
        mean = f'{self.mean:+.2f}' if sign else f'{self.mean:.2f}'
        return mean if len(self.values) == 1 else f'{mean} ± {self.deviation:.2f}'


@dataclass(frozen=True)
class Figure:
    """One metric of one row, in percent.

    Attributes:
        run: name of the runs behind it.
        title: the row's.
        metric: name in ``summary.json``.
        paper: the paper's figure, if it has one.
        paper_difference: by how much it is above the paper's default.
        here: ours, over seeds.
        difference: by how much ours is above our default with the same seed.
        seeds: those of :attr:`here`.
        state: why there are no figures, or fewer than asked for; 'finished' otherwise.
    """

    run: str
    title: str
    metric: str
    paper: float | None
    paper_difference: float | None
    here: Spread
    difference: Spread
    seeds: tuple[int, ...]
    state: str


def collect(table: Table, metrics: Sequence[str], outcomes: Sequence[Outcome]) -> list[Figure]:
    """The figures of a table, row after row, for each metric."""
    figures = []
    for row in table.rows:
        for metric in metrics:
            default, own = values(DEFAULT_RUN, metric, outcomes), values(row.run, metric, outcomes)
            base, paper = table.runs[DEFAULT_RUN].paper.get(metric), row.paper.get(metric)
            states = [outcome.state for outcome in outcomes if outcome.run == row.run and outcome.state != FINISHED]
            figures.append(
                Figure(
                    run=row.run,
                    title=row.title,
                    metric=metric,
                    paper=paper,
                    paper_difference=None if paper is None or base is None else paper - base,
                    here=Spread(tuple(own.values())),
                    difference=Spread(tuple(own[seed] - default[seed] for seed in own if seed in default)),
                    seeds=tuple(own),
                    state=', '.join(dict.fromkeys(states)) or FINISHED,
                )
            )
    return figures


def values(run: str, metric: str, outcomes: Sequence[Outcome]) -> dict[int, float]:
    """A metric of the finished runs of a row in percent, by seed."""
    chosen = (outcome for outcome in outcomes if outcome.run == run and metric in outcome.summary)
    return {outcome.seed: 100 * outcome.summary[metric] for outcome in sorted(chosen, key=lambda o: o.seed)}


@dataclass(frozen=True)
class Agreement:
    """How far the order of the rows is the paper's.

    Attributes:
        agreeing: pairs of rows that differ in the paper and come in the same order here.
        opposed: pairs that come in the opposite order.
        tied: pairs that are equal here.
        paper: the rows from best to worst in the paper.
        here: the same rows from best to worst here.
    """

    agreeing: int
    opposed: int
    tied: int
    paper: tuple[str, ...]
    here: tuple[str, ...]

    @property
    def pairs(self) -> int:
        """All pairs that differ in the paper."""
        return self.agreeing + self.opposed + self.tied

    @property
    def tau(self) -> float:
        """Kendall's rank correlation, over the pairs that differ in the paper."""
        return (self.agreeing - self.opposed) / self.pairs if self.pairs else float('nan')

    def text(self) -> str:
        """A sentence."""
        return (
            f"{self.agreeing} of {self.pairs} pairs of rows are in the paper's order (Kendall's tau {self.tau:+.2f}); "
            f'the paper: {" > ".join(self.paper)}; here: {" > ".join(self.here)}'
        )


def agreement(figures: Sequence[Figure]) -> Agreement:
    """Compare the order of the means of one metric; a network that stands in two rows counts once."""
    usable = {figure.run: figure for figure in figures if figure.paper is not None and figure.here.values}
    counts = {1: 0, -1: 0, 0: 0}
    for one, other in itertools.combinations(usable.values(), 2):
        theirs, ours = sign((one.paper or 0.0) - (other.paper or 0.0)), sign(one.here.mean - other.here.mean)
        if theirs:
            counts[theirs * ours] += 1
    paper = sorted(usable, key=lambda run: -(usable[run].paper or 0.0))
    here = sorted(usable, key=lambda run: -usable[run].here.mean)
    return Agreement(counts[1], counts[-1], counts[0], tuple(paper), tuple(here))


def sign(value: float) -> int:
    """-1, 0 or 1."""
    return (value > 0) - (value < 0)
