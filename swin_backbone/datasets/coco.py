"""COCO 2017: where it is published, and whether a folder holds it.

The checksums are those that several public projects state for the same files.
"""

import json
from pathlib import Path
from typing import Any

from swin_backbone.datasets.checks import Piece, look_for_folder, picture_names
from swin_backbone.datasets.download import Archive

SERVER = 'http://images.cocodataset.org'
ARCHIVES = {
    'train2017': Archive(f'{SERVER}/zips/train2017.zip', 'md5:cced6f7f71b7629ddf16f17bbcfab6b2'),
    'val2017': Archive(f'{SERVER}/zips/val2017.zip', 'md5:442b8da7639aecaf257c1dceb8ba8c80'),
    'annotations': Archive(
        f'{SERVER}/annotations/annotations_trainval2017.zip', 'md5:f4bbac642086de4f52a3fdda2de5fa2c'
    ),
    'test2017': Archive(f'{SERVER}/zips/test2017.zip', 'md5:77ad2c53ac5d0aea611d422c0938fb35'),
    'stuff': Archive(
        'http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/stuffthingmaps_trainval2017.zip', ''
    ),
    'test_info': Archive(f'{SERVER}/annotations/image_info_test2017.zip', 'md5:85da7065e5e600ebfee8af1edb634eb5'),
}
SPLITS = {'train': (118_287, 860_001), 'val': (5_000, 36_781)}
"""Pictures and annotated instances, crowds included, as published."""

TEST_PICTURES = 40_670
TEST_DEV_PICTURES = 20_288


def check_coco(root: Path) -> list[Piece]:
    """The pieces of COCO 2017 under ``root``: what is there, what its annotations name and is not."""
    pieces = []
    for split, (pictures, instances) in SPLITS.items():
        annotations = f'annotations/instances_{split}2017.json'
        file = Piece(
            annotations,
            'training' if split == 'train' else 'validation',
            ARCHIVES['annotations'],
            published={'pictures': pictures, 'instances': instances},
        )
        folder = Piece(
            f'{split}2017', f'the pictures of {annotations}', ARCHIVES[f'{split}2017'], published={'pictures': pictures}
        )
        named = read_annotations(root, file)
        check_folder(root, folder, named)
        pieces += [file, folder]
    return [*pieces, check_stuff(root), *check_test(root)]


def read_annotations(root: Path, piece: Piece) -> set[str] | None:
    """Count pictures and instances of an annotation file; the names of its pictures, if it can be read."""
    path = root / piece.path
    piece.present = path.is_file()
    if not piece.present:
        return None
    try:
        content: Any = json.loads(path.read_text(encoding='utf-8'))
        names = {image['file_name'] for image in content['images']}
        numbers = {image['id'] for image in content['images']}
        annotations = content.get('annotations', [])
        strays = sum(annotation['image_id'] not in numbers for annotation in annotations)
    except (ValueError, KeyError, TypeError) as error:
        piece.wrong.append(f'cannot be read as COCO annotations ({type(error).__name__}: {error})')
        return None
    piece.counts['pictures'] = len(names)
    if annotations:
        piece.counts['instances'] = len(annotations)
    if strays:
        piece.wrong.append(f'has {strays:,} instances of pictures that it does not list')
    return names


def check_folder(root: Path, piece: Piece, named: set[str] | None) -> None:
    """Count the pictures of a folder and find those that the annotations name and it lacks."""
    look_for_folder(root, piece)
    if piece.present:
        held = picture_names(root / piece.path)
        piece.counts['pictures'] = len(held)
        piece.missing = sorted((named or set()) - held)


def check_stuff(root: Path) -> Piece:
    """The semantic maps that HTC's recipes with stuff read."""
    published = {'label maps': SPLITS['train'][0]}
    piece = Piece('stuffthingmaps/train2017', "HTC's recipes", ARCHIVES['stuff'], 'stuff', published=published)
    look_for_folder(root, piece)
    piece.counts = {'label maps': len(picture_names(root / piece.path, ('.png',)))}
    return piece


def check_test(root: Path) -> list[Piece]:
    """The pictures for the test-dev server, which nobody needs for training."""
    info = Piece(
        'annotations/image_info_test-dev2017.json',
        'swin-backbone test --format-only',
        ARCHIVES['test_info'],
        part='test',
        published={'pictures': TEST_DEV_PICTURES},
    )
    folder = Piece(
        'test2017',
        'swin-backbone test --format-only',
        ARCHIVES['test2017'],
        part='test',
        published={'pictures': TEST_PICTURES},
    )
    check_folder(root, folder, read_annotations(root, info))
    return [info, folder]
