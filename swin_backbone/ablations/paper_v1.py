"""The Swin paper's Tables 4, 5, 6 and 9: the options that each row changes, and the published numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from swin_backbone.errors import InputError
from swin_backbone.evaluation.results import METRICS

DEFAULT_RUN = 'default'
"""Name of the run of the proposed network, with shifted windows and a relative position bias."""

SWITCHES: dict[str, Any] = dict(shift=True, position_encoding='relative', attention_method='shifted-cyclic')
"""Backbone options that the tables vary, with the values of the default row."""


@dataclass(frozen=True)
class Row:
    """A row of a table of scores.

    Attributes:
        run: name of its training runs; rows with the same network share them.
        title: name in the paper.
        changes: changed backbone options.
        paper: published scores in percent.
        config: the config of the row; empty if it changes the common config of the table.
        reference: the run to which differences are computed.
        source: the run whose network is tested with these changes without training; empty for a row that is trained.
    """

    run: str
    title: str
    changes: dict[str, Any]
    paper: dict[str, float]
    config: str = ''
    reference: str = DEFAULT_RUN
    source: str = ''

    @property
    def options(self) -> dict[str, Any]:
        """All backbone options of the row; empty for a row with its own config."""
        return {} if self.config else {**SWITCHES, **self.changes}


@dataclass(frozen=True)
class Table:
    """A table of scores.

    Attributes:
        name: name on the command line.
        title: subject of the comparison.
        rows: rows in the paper's order.
        task: the only task of this table; None if any of :data:`TASKS` can be chosen.
        configs: configs by task that replace those of :data:`TASKS`.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    task: 'Task | None' = None
    configs: Mapping[str, str] = field(default_factory=dict)

    @property
    def runs(self) -> dict[str, Row]:
        """One row per network, by the name of its runs."""
        return {row.run: row for row in self.rows}

    def choose(self, names: Sequence[str] | None) -> list[Row]:
        """Select networks by name; all by default.

        Raises:
            InputError: if the table has no such network.
        """
        unknown = [name for name in names or () if name not in self.runs]
        if unknown:
            raise InputError(f'{self.name} has no row {", ".join(unknown)}: use {", ".join(self.runs)}.')
        return [row for name, row in self.runs.items() if names is None or name in names]


def scores(imagenet: float | None, box: float | None, mask: float | None, miou: float | None) -> dict[str, float]:
    """Return a published row in percent: ImageNet-1K top-1, COCO box and mask AP, ADE20K mIoU (multi-scale)."""
    named = dict(top1=imagenet, bbox_mAP=box, segm_mAP=mask, mIoU=miou)
    return {name: value for name, value in named.items() if value is not None}


SHIFTED = scores(81.3, 50.5, 43.7, 46.1)
UNSHIFTED = scores(80.2, 47.7, 41.5, 43.3)
ABSOLUTE_RELATIVE = scores(81.3, 50.2, 43.4, 44.0)
RELATIVE_ONLY = scores(79.3, 48.2, 41.9, 44.1)

TABLES = {
    'table4': Table(
        'table4',
        'Shifted windows and position encodings (Swin paper, Table 4)',
        (
            Row('no-shift', 'w/o shifting', dict(shift=False), UNSHIFTED),
            Row(DEFAULT_RUN, 'shifted windows', {}, SHIFTED),
            Row('no-pos', 'no pos.', dict(position_encoding='none'), scores(80.1, 49.2, 42.6, 43.8)),
            Row('abs-pos', 'abs. pos.', dict(position_encoding='absolute'), scores(80.5, 49.0, 42.4, 43.2)),
            Row('abs-rel-pos', 'abs.+rel. pos.', dict(position_encoding='absolute+relative'), ABSOLUTE_RELATIVE),
            Row('rel-pos-no-app', 'rel. pos. w/o app.', dict(position_encoding='relative-only'), RELATIVE_ONLY),
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
    """The training behind the scores of a table.

    Attributes:
        config: config of the paper's recipe.
        demo: config for the generated data.
        metrics: labels of the reported metrics by name in ``summary.json``.
        remark: how the paper's numbers were obtained, and differences to ours.
    """

    config: str
    demo: str
    metrics: dict[str, str]
    remark: str


TASKS = {
    'classification': Task(
        'swin_t_300e',
        'classification/ablation_demo',
        {'top1': METRICS['top1'].label},
        'Swin-T, 300 epochs, ImageNet-1K validation.',
    ),
    'detection': Task(
        'cascade_swin_t_3x',
        'detection/ablation_demo',
        {name: METRICS[name].label for name in ('bbox_mAP', 'segm_mAP')},
        'Cascade Mask R-CNN with Swin-T, 3x schedule, COCO val2017, each row pre-trained on ImageNet-1K.',
    ),
    'segmentation': Task(
        'upernet_swin_t_160k',
        'segmentation/ablation_demo',
        {'mIoU': METRICS['mIoU'].label},
        'UperNet with Swin-T, 160k iterations, ADE20K val at several scales and flipped, each row '
        'pre-trained on ImageNet-1K; the scores here are at one scale (the released default model: 44.5, not 45.8).',
    ),
}


def pair(network: str, title: str, sgd: Sequence[float], adamw: Sequence[float]) -> tuple[Row, Row]:
    """Return the rows of a network in Table 9 with both optimizers; the metrics are those of :data:`OPTIMIZERS`."""
    reference = f'{network.replace("_", "-")}-sgd'
    return (
        Row(reference, f'{title}, SGD', {}, dict(zip(COCO, sgd, strict=True)), f'cascade_{network}_sgd_3x', reference),
        Row(
            reference.replace('sgd', 'adamw'),
            f'{title}, AdamW',
            {},
            dict(zip(COCO, adamw, strict=True)),
            f'cascade_{network}_3x',
            reference,
        ),
    )


COCO = ('bbox_mAP', 'bbox_mAP_50', 'bbox_mAP_75', 'segm_mAP', 'segm_mAP_50', 'segm_mAP_75')
OPTIMIZERS = Task(
    'cascade_r50_3x',
    '',
    {name: METRICS[name].label for name in COCO},
    'Cascade Mask R-CNN, 3x schedule, COCO val2017; the settings of SGD are not published.',
)
TABLES['table9'] = Table(
    'table9',
    'SGD and AdamW for convolutional backbones (Swin paper, Table 9)',
    (
        *pair('r50', 'R-50', (45.0, 62.9, 48.8, 38.5, 59.9, 41.4), (46.3, 64.3, 50.5, 40.1, 61.7, 43.4)),
        *pair('x101_32x4d', 'X101-32x4d', (47.8, 65.9, 51.9, 40.4, 62.9, 43.5), (48.1, 66.5, 52.4, 41.6, 63.9, 45.2)),
        *pair('x101_64x4d', 'X101-64x4d', (48.8, 66.9, 53.0, 41.4, 63.9, 44.7), (48.3, 66.4, 52.3, 41.7, 64.0, 45.1)),
    ),
    OPTIMIZERS,
)


@dataclass(frozen=True)
class Method:
    """A row of Table 5.

    Attributes:
        name: the backbone's ``attention_method``.
        title: name in the paper.
        stage_ms: milliseconds of the self-attention in each of the four stages on a V100.
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
"""Table 5. The paper does not state the batch size for the milliseconds."""

REFERENCE = 'shifted-cyclic'
VARIANTS = ('tiny', 'small', 'base')
"""The networks of Table 5, in the order of :attr:`Method.fps`."""
