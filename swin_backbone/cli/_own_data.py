"""Sub-commands of ``prepare-data`` for custom annotations: convert, split, subset and sheet."""

import argparse
from pathlib import Path
from typing import Any

from swin_backbone.datasets.convert import FORMATS, convert, split, subset
from swin_backbone.errors import InputError


def add_own_data(data_sets: Any) -> None:
    """Add the sub-commands; each sets ``act``, a function that runs it with the parsed options."""
    start = 'swin-backbone prepare-data'
    parser = data_sets.add_parser(
        'convert',
        help='convert annotations between COCO, YOLO and Pascal VOC',
        description='Convert boxes and polygons between COCO, YOLO and Pascal VOC. Images are not copied.',
        example=f'{start} convert labels/ train.json --from yolo --to coco --images images/',
    )
    parser.add_argument('source', type=Path, metavar='SOURCE', help='a COCO file, or the folder of YOLO or VOC files')
    parser.add_argument('target', type=Path, metavar='TARGET', help='the file or folder to write')
    parser.add_argument('--from', choices=FORMATS, required=True, dest='before', help='format of SOURCE')
    parser.add_argument('--to', choices=FORMATS, required=True, dest='after', help='format of TARGET')
    parser.add_argument('--images', type=Path, metavar='DIR', required=True, help='folder of the images')
    parser.set_defaults(act=run_convert)
    parser = data_sets.add_parser(
        'split',
        help='split a COCO file into training and validation',
        description='Randomly split the images of a COCO file into FILE_train.json and FILE_val.json.',
        example=f'{start} split parts.json --val 0.2',
    )
    parser.add_argument('source', type=Path, metavar='FILE', help='a COCO file')
    parser.add_argument('--val', type=float, metavar='SHARE', default=0.2, help='validation share (default: 0.2)')
    parser.add_argument('--seed', type=int, metavar='N', default=0, help='random seed (default: 0)')
    parser.set_defaults(act=run_split)
    parser = data_sets.add_parser(
        'subset',
        help='select images or classes of a COCO file',
        description='Write the first N images of a COCO file, or the images with objects of given classes.',
        example=f'{start} subset train.json small.json --count 50 --classes bolt,nut',
    )
    parser.add_argument('source', type=Path, metavar='FILE', help='a COCO file')
    parser.add_argument('target', type=Path, metavar='TARGET', help='the file to write')
    parser.add_argument('--count', type=int, metavar='N', help='maximum number of images (default: all)')
    parser.add_argument('--classes', metavar='A,B,C', help='categories to keep (default: all)')
    parser.set_defaults(act=run_subset)
    parser = data_sets.add_parser(
        'sheet',
        help='draw annotated images of a COCO file on a contact sheet',
        description='Draw annotated images of a COCO file to inspect them before training.',
        example=f'{start} sheet train.json sheet.png --images images/',
    )
    parser.add_argument('source', type=Path, metavar='FILE', help='a COCO file')
    parser.add_argument('target', type=Path, metavar='PNG', help='the image to write')
    parser.add_argument('--images', type=Path, metavar='DIR', required=True, help='folder of the images')
    parser.add_argument('--count', type=int, metavar='N', default=12, help='number of images (default: 12)')
    parser.set_defaults(act=run_sheet)


def run_convert(options: argparse.Namespace) -> None:
    """Convert annotations, and print the output and number of images."""
    count = convert(options.source, options.images, options.before, options.target, options.after)
    print(f'{options.target}: {count} images')


def run_split(options: argparse.Namespace) -> None:
    """Split a file, and print the output files."""
    print(*split(options.source, options.val, options.seed), sep='\n')


def run_subset(options: argparse.Namespace) -> None:
    """Select images or classes, and print the output and number of images."""
    check_count(options.count)
    classes = options.classes and [name.strip() for name in options.classes.split(',')]
    print(f'{options.target}: {subset(options.source, options.target, options.count, classes)} images')


def run_sheet(options: argparse.Namespace) -> None:
    """Draw a contact sheet, and print the output and number of images."""
    from swin_backbone.evaluation.contact_sheet import write_contact_sheet

    check_count(options.count)
    count = write_contact_sheet(options.source, options.images, options.target, options.count)
    print(f'{options.target}: {count} images')


def check_count(count: int | None) -> None:
    """Check that a number of images is at least 1.

    Raises:
        InputError: if it is not.
    """
    if count is not None and count < 1:
        raise InputError(f'--count must be at least 1, got {count}.')
