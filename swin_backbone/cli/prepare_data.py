"""Prepare a data set in the folder layout that the configs read."""

import argparse
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from swin_backbone.ablations.data import NeighboursSpec, read_neighbours, write_neighbours
from swin_backbone.cli import Parser
from swin_backbone.datasets.generated import GeneratedSummary
from swin_backbone.datasets.prepare import DATA_SETS, IncompleteError, prepare
from swin_backbone.datasets.shapes import ShapesSpec, read_shapes, write_shapes
from swin_backbone.errors import InputError


@dataclass(frozen=True)
class Made:
    """A data set that is made here.

    Attributes:
        spec: what decides its bytes.
        read: see :func:`swin_backbone.datasets.generated.read_generated`.
        write: see :func:`swin_backbone.datasets.generated.write_generated`.
        about: in a line, for the list of data sets.
        example: options to show.
        then: commands that read it, without the folder.
    """

    spec: type[Any]
    read: Callable[..., GeneratedSummary | None]
    write: Callable[..., GeneratedSummary]
    about: str
    example: str
    then: tuple[str, ...]


MADE = {
    'shapes': Made(
        ShapesSpec,
        read_shapes,
        write_shapes,
        'make the embedded data set: textured, overlapping shapes in the layouts of COCO and ADE20K',
        '--train-count 100 --objects 1 3',
        (
            'swin-backbone train configs/detection/cascade_swin_demo.py --data-root',
            'swin-backbone train configs/segmentation/upernet_swin_demo.py --data-root',
        ),
    ),
    'neighbours': Made(
        NeighboursSpec,
        read_neighbours,
        write_neighbours,
        "make the data set of the ablations' demo: a figure's class is what stands to the right of it",
        '--train-count 100 --reach 1',
        ('swin-backbone ablate table4 --task segmentation --demo --data-root',),
    ),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the sub-command of one data set."""
    parser = Parser(
        'Prepare a data set in the folder layout that the configs read.',
        'swin-backbone prepare-data shapes --root data/shapes',
    )
    data_sets = parser.add_subparsers(dest='data_set', metavar='DATA_SET', required=True)
    for name in MADE:
        _add_made(data_sets, name)
    for name in DATA_SETS:
        _add_public(data_sets, name)
    options = parser.parse_args(argv)
    options.prepare(options)


def _add_made(data_sets: Any, name: str) -> None:
    made = MADE[name]
    parser = data_sets.add_parser(
        name,
        help=made.about,
        description=f'{made.about[0].upper()}{made.about[1:]}. The same options give the same bytes.',
        example=f'swin-backbone prepare-data {name} --root data/{name} {made.example}',
    )
    parser.add_argument('--root', type=Path, default=Path('data') / name, help='folder to make (default: %(default)s)')
    parser.add_argument('--check', action='store_true', help='write nothing, say what is missing')
    knobs = parser.add_argument_group('what the pictures hold')
    for knob in fields(made.spec):
        default: Any = knob.default
        pair = isinstance(default, tuple)
        knobs.add_argument(
            '--' + knob.name.replace('_', '-'),
            type=type(default[0] if pair else default),
            nargs=2 if pair else None,
            metavar=('LEAST', 'MOST') if pair else 'N',
            default=default,
            help=f'{knob.metadata["help"]} (default: {" ".join(map(str, default)) if pair else default})',
        )
    parser.set_defaults(prepare=_prepare_made)


def _add_public(data_sets: Any, name: str) -> None:
    root = DATA_SETS[name].root
    parser = data_sets.add_parser(
        name,
        help=f'check or download {name}',
        description=f'Check that a folder holds {name} as the configs read it, and download what is missing.',
        example=f'swin-backbone prepare-data {name} --root {root} --download',
    )
    parser.add_argument('--root', type=Path, default=Path(root), help='its folder (default: %(default)s)')
    parser.add_argument('--check', action='store_true', help='say what is there and what is missing (the default)')
    parser.add_argument('--download', action='store_true', help='fetch what is missing, going on after a break')
    parts = DATA_SETS[name].parts
    parser.add_argument(
        '--with', nargs='+', choices=parts, default=(), dest='extras', help='with --download: fetch these extras too'
    )
    parser.set_defaults(prepare=_prepare_public)


def _prepare_public(options: argparse.Namespace) -> None:
    if options.check and options.download:
        raise InputError('--check and --download exclude each other: --download checks at the end.')
    try:
        lines = prepare(DATA_SETS[options.data_set], options.root, options.download, options.extras)
    except IncompleteError as error:
        print('\n'.join(error.lines))
        raise
    print('\n'.join(lines))


def _prepare_made(options: argparse.Namespace) -> None:
    made = MADE[options.data_set]
    values = {knob.name: getattr(options, knob.name) for knob in fields(made.spec)}
    spec = made.spec(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
    start = time.monotonic()
    summary = made.read(options.root, spec) if options.check else made.write(options.root, spec)
    if summary is None:
        raise InputError(f'{options.root} holds no data set yet: run this command without --check to make it.')
    _report(summary, time.monotonic() - start, made.then)


def _report(summary: GeneratedSummary, seconds: float, then: Sequence[str]) -> None:
    print(f'{summary.root}: ' + (f'made in {seconds:.1f} s' if summary.written else 'complete, nothing to do'))
    for name, counts in (('train', summary.train), ('val', summary.val)):
        print(f'  {name}: {counts.pictures} pictures, {counts.objects} objects, {counts.crowds} crowds')
    print('train on it with:')
    for command in then:
        print(f'  {command} {shlex.quote(str(summary.root))}')
