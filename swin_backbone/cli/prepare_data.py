"""Generate, check, download, convert or split a data set."""

import argparse
import shlex
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from swin_backbone.ablations.demo_data import NeighboursSpec
from swin_backbone.cli import Parser
from swin_backbone.cli._own_data import add_own_data
from swin_backbone.datasets.generated import read_data_set, write_data_set
from swin_backbone.datasets.generated_classes import ShapeClassesSpec
from swin_backbone.datasets.public import DATA_SETS, IncompleteError, prepare
from swin_backbone.datasets.shapes import ShapesSpec
from swin_backbone.errors import InputError


class Generated(NamedTuple):
    """A generated data set: its spec, help text, example options, and commands that use its folder."""

    spec: type[Any]
    about: str
    example: str
    commands: tuple[str, ...]


TITLES = {'coco': 'COCO 2017', 'ade20k': 'ADE20K'}

GENERATED = (
    Generated(
        ShapesSpec,
        'generate the demo data set: textured, overlapping shapes in the layouts of COCO and ADE20K',
        '--train-count 100 --objects 1 3',
        (
            'swin-backbone train cascade_swin_demo --data-root',
            'swin-backbone train upernet_swin_demo --data-root',
        ),
    ),
    Generated(
        ShapeClassesSpec,
        'generate the classification demo data set: images of single shapes in one folder per class',
        '--train-count 300',
        ('swin-backbone train swin_demo --data-root',),
    ),
    Generated(
        NeighboursSpec,
        'generate a data set whose label depends on the neighbouring shape: each shape is labelled with the colour of '
        'the next shape to its right',
        '--train-count 100 --reach 1',
        ('swin-backbone ablate table4 --task segmentation --demo --data-root',),
    ),
)


def main(argv: Sequence[str] | None = None) -> None:
    """Run a sub-command."""
    parser = Parser(
        'Download, check, generate, convert or split a data set.',
        'swin-backbone prepare-data shapes --root data/shapes',
    )
    data_sets = parser.add_subparsers(dest='data_set', metavar='DATA_SET', required=True)
    for generated in GENERATED:
        _add_generated(data_sets, generated)
    for name in DATA_SETS:
        _add_public(data_sets, name)
    add_own_data(data_sets)
    options = parser.parse_args(argv)
    if 'act' in options:
        options.act(options)
    elif options.data_set in DATA_SETS:
        _prepare_public(options)
    else:
        _prepare_generated(options)


def _add_generated(data_sets: Any, generated: Generated) -> None:
    name = generated.spec.name
    parser = data_sets.add_parser(
        name,
        help=generated.about,
        description=f'{generated.about[0].upper()}{generated.about[1:]}. The same options produce identical files.',
        example=f'swin-backbone prepare-data {name} --root data/{name} {generated.example}',
    )
    parser.add_argument(
        '--root', metavar='DIR', type=Path, default=Path('data') / name, help='output folder (default: %(default)s)'
    )
    parser.add_argument('--check', action='store_true', help='check the folder without writing to it')
    group = parser.add_argument_group('content of the images')
    for option in fields(generated.spec):
        default: Any = option.default
        pair = isinstance(default, tuple)
        group.add_argument(
            '--' + option.name.replace('_', '-'),
            type=type(default[0] if pair else default),
            nargs=2 if pair else None,
            metavar=('MIN', 'MAX') if pair else 'N',
            default=default,
            help=f'{option.metadata["help"]} (default: {" ".join(map(str, default)) if pair else default})',
        )
    parser.set_defaults(generated=generated)


def _add_public(data_sets: Any, name: str) -> None:
    data_set = DATA_SETS[name]
    parser = data_sets.add_parser(
        name,
        help=f'check or download {TITLES[name]}',
        description=f'Check that a folder contains {TITLES[name]} as the configs expect it, or download missing files.',
        example=f'swin-backbone prepare-data {name} --root {data_set.root} --download',
    )
    parser.add_argument(
        '--root',
        metavar='DIR',
        type=Path,
        default=Path(data_set.root),
        help='folder of the data set (default: %(default)s)',
    )
    parser.add_argument('--check', action='store_true', help='read all images and label maps instead of a sample')
    parser.add_argument('--download', action='store_true', help='download missing files; resumes interrupted downloads')
    parser.add_argument(
        '--with', nargs='+', choices=data_set.parts, default=(), dest='parts', help='optional parts to download as well'
    )


def _prepare_public(options: argparse.Namespace) -> None:
    if options.check and options.download:
        raise InputError('--check and --download cannot be combined: download first, then check.')
    try:
        lines = prepare(options.data_set, options.root, options.download, options.parts, options.check)
    except IncompleteError as error:
        print('\n'.join(error.lines))
        raise
    print('\n'.join(lines))


def _prepare_generated(options: argparse.Namespace) -> None:
    generated: Generated = options.generated
    values = {option.name: getattr(options, option.name) for option in fields(generated.spec)}
    spec = generated.spec(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    )
    start = time.monotonic()
    summary = read_data_set(options.root, spec) if options.check else write_data_set(options.root, spec)
    if summary is None:
        raise InputError(f'{options.root} contains no data set yet: run this command without --check to generate it.')
    state = f'generated in {time.monotonic() - start:.1f} s' if summary.written else 'complete, nothing to do'
    print(f'{summary.root}: {state}')
    for split, counts in summary.counts.items():
        print(f'  {split}: {counts["images"]} images, {counts["objects"]} objects, {counts["crowds"]} crowds')
    print('train on it with:')
    for command in generated.commands:
        print(f'  {command} {shlex.quote(str(summary.root))}')
