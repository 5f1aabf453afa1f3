"""Compute the scores of an ablation table from the summaries of its runs."""

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from swin_backbone.ablations.paper_v1 import DEFAULT_RUN, Table

FINISHED = 'finished'


@dataclass(frozen=True)
class Outcome:
    """The result of one run.

    Attributes:
        run: name of the run.
        seed: random seed.
        state: 'finished', or why there are no scores.
        summary: content of ``summary.json``; empty unless the run is finished.
        folder: work dir of the run.
        remark: details about the state.
    """

    run: str
    seed: int
    state: str
    summary: Mapping[str, Any] = field(default_factory=dict)
    folder: str = ''
    remark: str = ''


@dataclass(frozen=True)
class Spread:
    """Values in percent, one per seed."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean; NaN if there are no values."""
        return statistics.fmean(self.values) if self.values else math.nan

    @property
    def deviation(self) -> float:
        """Sample standard deviation; NaN for fewer than two values."""
        return statistics.stdev(self.values) if len(self.values) > 1 else math.nan

    def text(self, sign: bool = False) -> str:
        """Format mean and standard deviation, if they exist."""
        if not self.values:
            return ''
        mean = f'{self.mean:+.2f}' if sign else f'{self.mean:.2f}'
        return mean if len(self.values) == 1 else f'{mean} ± {self.deviation:.2f}'


@dataclass(frozen=True)
class Score:
    """One metric of one row, in percent.

    Attributes:
        run: name of the runs.
        title: title of the row.
        metric: name of the metric in ``summary.json``.
        paper: the paper's score, if published.
        paper_difference: the paper's score minus that of its reference row.
        here: our scores.
        difference: our scores minus those of our reference row with the same seed.
        seeds: seeds of :attr:`here`.
        state: 'finished', or why scores are missing.
        reference: the run to which differences are computed.
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
    reference: str = DEFAULT_RUN

    @property
    def is_default(self) -> bool:
        """Whether this is the row to which differences are computed."""
        return self.run == self.reference


def collect(table: Table, metrics: Sequence[str], outcomes: Sequence[Outcome]) -> list[Score]:
    """Collect the scores of a table, row by row, for each metric."""
    scores = []
    for row, metric in itertools.product(table.rows, metrics):
        default, own = scores_by_seed(row.reference, metric, outcomes), scores_by_seed(row.run, metric, outcomes)
        base, paper = table.runs[row.reference].paper.get(metric), row.paper.get(metric)
        states = [outcome.state for outcome in outcomes if outcome.run == row.run and outcome.state != FINISHED]
        scores.append(
            Score(
                run=row.run,
                title=row.title,
                metric=metric,
                paper=paper,
                paper_difference=None if paper is None or base is None else paper - base,
                here=Spread(tuple(own.values())),
                difference=Spread(tuple(own[seed] - default[seed] for seed in own if seed in default)),
                seeds=tuple(own),
                state=', '.join(dict.fromkeys(states)) or FINISHED,
                reference=row.reference,
            )
        )
    return scores


def scores_by_seed(run: str, metric: str, outcomes: Sequence[Outcome]) -> dict[int, float]:
    """Return a metric of the finished runs of a row in percent, by seed."""
    found = {o.seed: 100 * o.summary[metric] for o in outcomes if o.run == run and metric in o.summary}
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class Agreement:
    """Agreement of the order of the rows with the paper's.

    Attributes:
        agreeing: number of pairs of rows that differ in the paper and have the same order here.
        opposed: number of those pairs with the opposite order here.
        tied: number of those pairs with equal scores here.
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
        """Number of pairs of rows that differ in the paper."""
        return self.agreeing + self.opposed + self.tied

    @property
    def tau(self) -> float:
        """Kendall's rank correlation over the pairs that differ in the paper; ``scipy`` would also divide by ties."""
        return (self.agreeing - self.opposed) / self.pairs if self.pairs else math.nan

    def text(self) -> str:
        """Format as a sentence."""
        return (
            f"{self.agreeing} of {self.pairs} pairs of rows are in the paper's order (Kendall's tau {self.tau:+.2f}); "
            f'the paper: {" > ".join(self.paper)}; here: {" > ".join(self.here)}'
        )


def agreement(scores: Sequence[Score]) -> Agreement:
    """Compare the order of the means of one metric with the paper's; a network with two rows counts once."""
    found = {s.run: (s.paper, s.here.mean) for s in scores if s.paper is not None and s.here.values}
    pairs = itertools.combinations(found.values(), 2)
    products = [(paper - other) * (here - there) for (paper, here), (other, there) in pairs if paper != other]
    agreeing, opposed = sum(product > 0 for product in products), sum(product < 0 for product in products)
    in_paper, in_ours = sorted(found, key=lambda run: -found[run][0]), sorted(found, key=lambda run: -found[run][1])
    return Agreement(agreeing, opposed, len(products) - agreeing - opposed, tuple(in_paper), tuple(in_ours))
