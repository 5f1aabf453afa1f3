"""The Swin paper's ablations: what each row of Tables 4, 5 and 6 changes, and the figures printed there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from swin_backbone.errors import InputError

DEFAULT_RUN = 'default'
"""The network as the paper proposes it: shifted windows and a relative position bias."""

SWITCHES: dict[str, Any] = dict(shift=True, position_encoding='relative', attention_method='shifted-cyclic')
"""The backbone's options that the tables vary, as the default row has them."""


@dataclass(frozen=True)
class Row:
    """A row of a table of scores.

    Attributes:
        run: name of the training runs behind it; rows of the same network share theirs.
        title: as the paper calls it.
        changes: the options of :data:`SWITCHES` that it changes.
        paper: the paper's figures in percent; a metric that it leaves out is not in it.
    """

    run: str
    title: str
    changes: dict[str, Any]
    paper: dict[str, float]

    @property
    def options(self) -> dict[str, Any]:
        """All options of :data:`SWITCHES`."""
        return {**SWITCHES, **self.changes}


@dataclass(frozen=True)
class Table:
    """A table of scores.

    Attributes:
        name: as the command line calls it.
        title: what it is about.
        rows: in the paper's order.
    """

    name: str
    title: str
    rows: tuple[Row, ...]

    @property
    def runs(self) -> dict[str, Row]:
        """A row for each network, by the name of its runs."""
        return {row.run: row for row in self.rows}

    def choose(self, names: Sequence[str] | None) -> list[Row]:
        """The networks called ``names``; all by default.

        Raises:
            InputError: there is no such network in this table.
        """
        unknown = [name for name in names or () if name not in self.runs]
        if unknown:
            raise InputError(f'{self.name} has no row {", ".join(unknown)}: use {", ".join(self.runs)}.')
        return [row for name, row in self.runs.items() if names is None or name in names]


def scores(imagenet: float, box: float | None, mask: float | None, miou: float | None) -> dict[str, float]:
    """A printed row: ImageNet-1K top-1, COCO box and mask AP, ADE20K mIoU (at several scales), in percent."""
    named = dict(imagenet=imagenet, bbox_mAP=box, segm_mAP=mask, mIoU=miou)
    return {name: value for name, value in named.items() if value is not None}


SHIFTED = scores(81.3, 50.5, 43.7, 46.1)
UNSHIFTED = scores(80.2, 47.7, 41.5, 43.3)

TABLES = {
    'table4': Table(
        'table4',
        'Shifted windows and position encodings (Swin paper, Table 4)',
        (
            Row('no-shift', 'w/o shifting', dict(shift=False), UNSHIFTED),
            Row(DEFAULT_RUN, 'shifted windows', {}, SHIFTED),
            Row('no-pos', 'no pos.', dict(position_encoding='none'), scores(80.1, 49.2, 42.6, 43.8)),
            Row('abs-pos', 'abs. pos.', dict(position_encoding='absolute'), scores(80.5, 49.0, 42.4, 43.2)),
            Row(
                'abs-rel-pos',
                'abs.+rel. pos.',
                dict(position_encoding='absolute+relative'),
                scores(81.3, 50.2, 43.4, 44.0),
            ),
            Row(
                'rel-pos-no-app',
                'rel. pos. w/o app.',
                dict(position_encoding='relative-only'),
                scores(79.3, 48.2, 41.9, 44.1),
            ),
            Row(DEFAULT_RUN, 'rel. pos.', {}, SHIFTED),
        ),
    ),
    'table6': Table(
        'table6',
        'Methods of self-attention (Swin paper, Table 6)',
        (
            Row('sliding', 'sliding window', dict(attention_method='sliding-kernel'), scores(81.4, 50.2, 43.5, 45.8)),
            Row('performer', 'Performer', dict(attention_method='performer'), scores(79.0, None, None, None)),
            Row('no-shift', 'window, w/o shifting (of Table 4)', dict(shift=False), UNSHIFTED),
            Row(DEFAULT_RUN, 'shifted window', {}, SHIFTED),
        ),
    ),
}


@dataclass(frozen=True)
class Task:
    """What is trained for a table.

    Attributes:
        config: the paper's recipe.
        demo: the recipe on the embedded data.
        metrics: names in ``summary.json`` with the names that people use.
        remark: how a figure from training differs from the paper's.
    """

    config: str
    demo: str
    metrics: dict[str, str]
    remark: str


TASKS = {
    'detection': Task(
        'cascade_swin_t_3x',
        'detection/ablation_demo',
        dict(bbox_mAP='box AP', segm_mAP='mask AP'),
        'Cascade Mask R-CNN with Swin-T, 3x schedule, COCO val2017, each row pre-trained on ImageNet-1K.',
    ),
    'segmentation': Task(
        'upernet_swin_t_160k',
        'segmentation/ablation_demo',
        dict(mIoU='mIoU'),
        'UperNet with Swin-T, 160k iterations, ADE20K val at several scales and flipped, each row '
        'pre-trained on ImageNet-1K; the figures here are at one scale (the released default model: 44.5, not 45.8).',
    ),
}


@dataclass(frozen=True)
class Method:
    """A row of Table 5.

    Attributes:
        name: the backbone's ``attention_method``.
        title: as the paper calls it.
        stage_ms: self-attention in the four stages, in milliseconds, on a V100.
        fps: images per second of Swin-T, -S and -B.
    """

    name: str
    title: str
    stage_ms: tuple[float, float, float, float]
    fps: tuple[float, float, float]


METHODS = (
    Method('sliding-naive', 'sliding window (naive)', (122.5, 38.3, 12.1, 7.6), (183, 109, 77)),
    Method('sliding-kernel', 'sliding window (kernel)', (7.6, 4.7, 2.7, 1.8), (488, 283, 187)),
    Method('performer', 'Performer', (4.8, 2.8, 1.8, 1.5), (638, 370, 241)),
    Method('window', 'window (w/o shifting)', (2.8, 1.7, 1.2, 0.9), (770, 444, 280)),
    Method('shifted-padding', 'shifted window (padding)', (3.3, 2.3, 1.9, 2.2), (670, 371, 236)),
    Method('shifted-cyclic', 'shifted window (cyclic)', (3.0, 1.9, 1.3, 1.0), (755, 437, 278)),
)
"""Table 5. The batch behind the milliseconds is not printed."""

REFERENCE = 'shifted-cyclic'
VARIANTS = ('tiny', 'small', 'base')
"""The networks of Table 5, in the order of :attr:`Method.fps`."""
