"""Goals for the speed and memory of the Triton kernels on an H100, compared with measurements."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from swin_backbone.benchmark.gpu_rows import ATTENTION, BACKBONE, OURS, SDPA
from swin_backbone.variants import get_variant

Tables = Mapping[str, Sequence[Mapping[str, Any]]]
LARGE, SMALL = '8 x 800 x 1216', '32 x 224 x 224'


@dataclass(frozen=True)
class Goal:
    """A goal for a measured value.

    Attributes:
        what: description of the value.
        value: the goal.
        at_most: whether the goal is an upper bound; otherwise it is a lower bound.
        measure: computes the value from the measured tables; NaN if a row is missing.
    """

    what: str
    value: float
    at_most: bool
    measure: Callable[[Tables], float]

    def row(self, tables: Tables) -> dict[str, Any]:
        """Return the cells of this goal in the table of goals."""
        found = self.measure(tables)
        met = found <= self.value if self.at_most else found >= self.value
        return dict(
            goal=self.what,
            wanted=f'{"at most" if self.at_most else "at least"} {self.value:g}',
            measured=None if math.isnan(found) else found,
            result='not measured' if math.isnan(found) else 'met' if met else 'missed',
        )


def least(values: Iterable[Any]) -> float:
    """Return the smallest number; NaN if there are none."""
    return min((float(value) for value in values if value is not None), default=math.nan)


def share_of_copy(tables: Tables, passed: str) -> float:
    """Compute the fraction of the copy bandwidth over all blocks of Swin-T, of which half are shifted."""
    rows = [
        row
        for row in tables.get(ATTENTION, ())
        if (row['version'], row['pass']) == (1, passed) and row['backend'] == 'triton' and 'us' in row
    ]
    depths = get_variant('tiny', 1).depths
    if len(rows) < 2 * len(depths):
        return math.nan
    spent = {(row['stage'], row['shifted']): depths[row['stage'] - 1] / 2 * row['us'] for row in rows}
    copied = sum(row['share_of_copy'] * spent[row['stage'], row['shifted']] for row in rows)
    return float(copied / sum(spent.values()))


def backbone_rows(tables: Tables, mode: str, images: str = LARGE) -> list[Mapping[str, Any]]:
    """Return the measured rows of Swin-T."""
    wanted = dict(images=images, network='tiny V1', mode=mode)
    rows = tables.get(BACKBONE, ())
    return [row for row in rows if 'ms' in row and all(row[name] == value for name, value in wanted.items())]


def speed_up(tables: Tables, mode: str, compiled: bool) -> float:
    """Compute the speedup of our kernels over SDPA, or over the fastest compiled implementation if ``compiled``."""
    rows = [row for row in backbone_rows(tables, mode) if row['compiled'] == compiled]
    others = [row for row in rows if (row['implementation'] != OURS if compiled else row['implementation'] == SDPA)]
    ours = [row for row in rows if row['implementation'] == OURS]
    return least(row['ms'] for row in others) / least(row['ms'] for row in ours)


def memory(tables: Tables) -> float:
    """Compute the ratio of our lowest training memory to the lowest one of all others, compiled or not."""
    rows = backbone_rows(tables, 'training step')
    ours = least(row['peak_MiB'] for row in rows if row['implementation'] == OURS)
    others = least(row['peak_MiB'] for row in rows if row['implementation'] != OURS)
    return ours / others


def small_images(tables: Tables) -> float:
    """Return the milliseconds of our compiled backbone for 32 images of 224 x 224 pixels."""
    rows = backbone_rows(tables, 'inference', SMALL)
    return least(row['ms'] for row in rows if row['implementation'] == OURS and row['compiled'])


GOALS = (
    Goal('attention forward, fraction of the copy bandwidth', 0.7, False, partial(share_of_copy, passed='forward')),
    Goal('attention backward, fraction of the copy bandwidth', 0.5, False, partial(share_of_copy, passed='backward')),
    Goal('inference, speedup over SDPA', 1.4, False, partial(speed_up, mode='inference', compiled=False)),
    Goal(
        'inference, speedup over the fastest other compiled implementation',
        1.15,
        False,
        partial(speed_up, mode='inference', compiled=True),
    ),
    Goal('training step, speedup over SDPA', 1.6, False, partial(speed_up, mode='training step', compiled=False)),
    Goal(
        'training step, speedup over the fastest other compiled implementation',
        1.2,
        False,
        partial(speed_up, mode='training step', compiled=True),
    ),
    Goal('training memory, relative to the lowest other implementation', 0.7, True, memory),
    Goal(f'ms for {SMALL}, compiled (FasterTransformer on an A100: 5.46)', 5.7, True, small_images),
)
"""Goals for Swin-T in bfloat16, at 8 x 800 x 1216 except for the last one."""


def goals(tables: Tables) -> list[dict[str, Any]]:
    """Return the rows of the table of goals."""
    return [goal.row(tables) for goal in GOALS]
