"""The speed and memory that the Triton kernels are meant to reach on an H100, beside what was measured."""

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
    """A goal.

    Attributes:
        what: what is measured, and against what.
        value: what it should be.
        at_most: whether it should be at most that; else at least.
        measure: the value in the measured tables; NaN where a row that it needs was not measured.
    """

    what: str
    value: float
    at_most: bool
    measure: Callable[[Tables], float]

    def row(self, tables: Tables) -> dict[str, Any]:
        """Cells of the table of goals."""
        found = self.measure(tables)
        met = found <= self.value if self.at_most else found >= self.value
        return dict(
            goal=self.what,
            wanted=f'{"at most" if self.at_most else "at least"} {self.value:g}',
            measured=None if math.isnan(found) else found,
            result='not measured' if math.isnan(found) else 'met' if met else 'missed',
        )


def least(values: Iterable[Any]) -> float:
    """The least of some numbers; NaN if there are none."""
    return min((float(value) for value in values if value is not None), default=math.nan)


def share_of_copy(tables: Tables, passed: str) -> float:
    """Share of the copy bandwidth in all blocks of Swin-T; half of a stage's blocks are shifted."""
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
    """The measured rows of Swin-T."""
    wanted = dict(images=images, network='tiny V1', mode=mode)
    rows = tables.get(BACKBONE, ())
    return [row for row in rows if 'ms' in row and all(row[name] == value for name, value in wanted.items())]


def speed_up(tables: Tables, mode: str, compiled: bool) -> float:
    """Time of others over ours, all of them compiled or none: of SDPA, or the least one of all that are compiled."""
    rows = [row for row in backbone_rows(tables, mode) if row['compiled'] == compiled]
    others = [row for row in rows if (row['implementation'] != OURS if compiled else row['implementation'] == SDPA)]
    ours = [row for row in rows if row['implementation'] == OURS]
    return least(row['ms'] for row in others) / least(row['ms'] for row in ours)


def memory(tables: Tables) -> float:
    """Our least peak of a training step over the least one of all others, compiled or not."""
    rows = backbone_rows(tables, 'training step')
    ours = least(row['peak_MiB'] for row in rows if row['implementation'] == OURS)
    others = least(row['peak_MiB'] for row in rows if row['implementation'] != OURS)
    return ours / others


def small_images(tables: Tables) -> float:
    """Our milliseconds for 32 images of 224 x 224 pixels, compiled."""
    rows = backbone_rows(tables, 'inference', SMALL)
    return least(row['ms'] for row in rows if row['implementation'] == OURS and row['compiled'])


GOALS = (
    Goal('attention forward, share of the copy bandwidth', 0.7, False, partial(share_of_copy, passed='forward')),
    Goal('attention backward, share of the copy bandwidth', 0.5, False, partial(share_of_copy, passed='backward')),
    Goal('inference, times as fast as SDPA', 1.4, False, partial(speed_up, mode='inference', compiled=False)),
    Goal(
        'inference, times as fast as the best compiled rival',
        1.15,
        False,
        partial(speed_up, mode='inference', compiled=True),
    ),
    Goal('training step, times as fast as SDPA', 1.6, False, partial(speed_up, mode='training step', compiled=False)),
    Goal(
        'training step, times as fast as the best compiled rival',
        1.2,
        False,
        partial(speed_up, mode='training step', compiled=True),
    ),
    Goal('training memory, as a fraction of the best rival', 0.7, True, memory),
    Goal(f'ms for {SMALL}, compiled (FasterTransformer on an A100: 5.46)', 5.7, True, small_images),
)
"""All but the last at 8 x 800 x 1216 in bfloat16, with Swin-T."""


def goals(tables: Tables) -> list[dict[str, Any]]:
    """The table of goals."""
    return [goal.row(tables) for goal in GOALS]
