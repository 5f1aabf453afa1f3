"""Checking annotation files: every kind of error is reported with examples, and valid variations are accepted."""

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from swin_backbone.datasets import coco_files
from swin_backbone.datasets.coco_check import check_annotations
from swin_backbone.datasets.coco_files import check_coco_files
from swin_backbone.datasets.mask_check import pixels_of
from swin_backbone.errors import InputError

Change = Callable[[dict[str, Any]], Any]
WIDTH, HEIGHT = 40, 30


def content() -> dict[str, Any]:
    """Two images with two objects each."""
    images = [dict(id=n, file_name=f'{n}.png', width=WIDTH, height=HEIGHT) for n in (1, 2)]
    annotations = [
        dict(
            id=n + 1,
            image_id=1 + n // 2,
            category_id=1 + n % 2,
            bbox=[5 + n, 6, 10, 12],
            area=120,
            iscrowd=0,
            segmentation=[[5 + n, 6, 15 + n, 6, 15 + n, 18, 5 + n, 18]],
        )
        for n in range(4)
    ]
    return dict(images=images, annotations=annotations, categories=[dict(id=1, name='bolt'), dict(id=2, name='nut')])


def first(**values: Any) -> Change:
    """Change the first annotation."""
    return lambda c: c['annotations'][0].update(values)


def each(**values: Any) -> Change:
    """Change every annotation."""
    return lambda c: [one.update(values) for one in c['annotations']]


def image(**values: Any) -> Change:
    """Change the first image."""
    return lambda c: c['images'][0].update(values)


def without(part: str, key: str) -> Change:
    """Remove a key from the first entry of a part."""
    return lambda c: c[part][0].pop(key)


def runs(counts: Any, size: Any = (HEIGHT, WIDTH)) -> Change:
    """Set run lengths as the mask of the first annotation."""
    return first(segmentation=dict(size=list(size), counts=counts))


def double(part: str) -> Change:
    """Repeat the first entry of a part."""
    return lambda c: c[part].append(copy.deepcopy(c[part][0]))


FATAL: dict[str, tuple[Change, str]] = {
    'images that are no list': (lambda c: c.update(images={}), 'images is a dict'),
    'no images': (lambda c: c.pop('images'), 'has no images, only annotations, categories'),
    'empty images': (lambda c: c.update(images=[]), 'lists no images'),
    'no annotations': (lambda c: c.pop('annotations'), 'has no annotations, only images, categories'),
    'no categories': (lambda c: c.pop('categories'), 'has no categories, only images, annotations'),
    'empty categories': (lambda c: c.update(categories=[]), 'lists no categories'),
    'an image that is no dict': (lambda c: c['images'].append('3.png'), "1 image not stored as a dict (number"),
    'an image without id': (without('images', 'id'), '1 image without id (number 0'),
    'an image without file_name': (without('images', 'file_name'), '1 image without file_name'),
    'an image without width': (without('images', 'width'), '1 image without width'),
    'image ids twice': (double('images'), '1 image id used more than once (1): every image needs a unique id'),
    'an image id that is a list': (image(id=[1]), '1 image with an id that is neither a number nor a string ([1])'),
    'a file_name that is a number': (image(file_name=1), '1 image with a file_name that is not text (1)'),
    'a width of 0': (image(width=0), '1 image with a width or height that is not a whole number of pixels (1.png: 0'),
    'a width as a string': (image(width='40'), "(1.png: '40' x 30): use those of the file"),
    'a height of 29.5': (image(height=29.5), '(1.png: 40 x 29.5)'),
    'an annotation that is no dict': (lambda c: c['annotations'].append(None), '1 annotation not stored as a dict'),
    'no bbox': (without('annotations', 'bbox'), '1 annotation without bbox (number 0'),
    'no image_id': (without('annotations', 'image_id'), '1 annotation without image_id'),
    'no category_id': (without('annotations', 'category_id'), '1 annotation without category_id'),
    'an annotation id that is a list': (first(id=[]), '1 annotation with an id that is neither a number nor a str'),
    'annotations of an unknown image': (first(image_id=9), '1 annotation with an unknown image_id (id 1: 9): add'),
    'annotations of an unknown category': (first(category_id=0), 'with an unknown category_id (id 1 of 1.png: 0)'),
    'an image_id that is a list': (first(image_id=[1]), 'with an unknown image_id (id 1: [1])'),
    'image ids as text on one side': (first(image_id='1'), "(id 1: '1'): '1' is not 1: write ids as numbers, or as"),
    'category ids as text on one side': (first(category_id='1'), 'whose category_id is of another type than the ids'),
    'a category without name': (without('categories', 'name'), '1 category without name'),
    'a category name that is a number': (lambda c: c['categories'][0].update(name=7), 'with a name that is not text ('),
    'category ids twice': (lambda c: c['categories'][0].update(id=2), '1 category id used more than once (2)'),
    'category names twice': (lambda c: c['categories'][0].update(name='nut'), "name used more than once ('nut'): MMDe"),
    'a bbox of three numbers': (first(bbox=[1, 2, 3]), 'a bbox that is not four finite numbers (id 1 of 1.png: [1, 2,'),
    'a bbox of text': (first(bbox=['5', '6', '10', '12']), "not four finite numbers (id 1 of 1.png: ['5', '6'"),
    'every bbox of text': (each(bbox=['5', '6', '10', '12']), '4 annotations with a bbox that is not four finite numb'),
    'a bbox of null': (first(bbox=None), 'not four finite numbers (id 1 of 1.png: None): a box is [x, y, width, heigh'),
    'a NaN in a bbox': (first(bbox=[5, float('nan'), 10, 12]), 'not four finite numbers (id 1 of 1.png: [5, nan, 10,'),
    'an infinite bbox': (first(bbox=[5, 6, float('inf'), 12]), 'not four finite numbers (id 1 of 1.png: [5, 6, inf, 1'),
    'a bbox that overflows': (first(bbox=[0, 0, 1e308, 1e308]), '1 annotation with a bbox further than 100 image size'),
    'boxes as fractions': (each(bbox=[0.1, 0.2, 0.3, 0.4]), 'with a bbox in fractions of the image size'),
    'boxes as corners': (each(bbox=[15, 12, 38, 29]), '4 annotations with a bbox that seems to be two corners'),
    'an area of text': (first(area='120'), "an area that is not a finite number (id 1 of 1.png: '120')"),
    'an area of NaN': (first(area=float('nan')), 'an area that is not a finite number'),
    'iscrowd of text': (first(iscrowd='no'), "an iscrowd that is not 0 or 1 (id 1 of 1.png: 'no')"),
    'no segmentation': (without('annotations', 'segmentation'), 'without a segmentation (id 1 of 1.png: None): the mo'),
    'an empty segmentation': (first(segmentation=[]), 'train on boxes alone with --no-masks'),
    'an empty polygon': (first(segmentation=[[]]), 'polygons of fewer than three points or an odd number of values'),
    'a polygon of two points': (first(segmentation=[[1, 1, 9, 9]]), '(id 1 of 1.png: [[1, 1, 9, 9]])'),
    'a polygon of seven values': (first(segmentation=[[1, 1, 9, 1, 9, 9, 3]]), 'an odd number of values (id 1 of 1.pn'),
    'a short polygon before a whole one': (first(segmentation=[[1, 1, 9, 9], [1, 1, 9, 1, 9, 9]]), 'fewer than three'),
    'a polygon outside of a list': (first(segmentation=[1, 1, 9, 1, 9, 9]), 'polygons that are not lists in a list'),
    'a polygon of points': (first(segmentation=[[[1, 1], [9, 1], [9, 9]] * 2]), 'values in a polygon that are not num'),
    'text in a polygon': (first(segmentation=[['1', 1, 9, 1, 9, 9]]), 'values in a polygon that are not numbers'),
    'NaN in a polygon': (first(segmentation=[[1, 1, float('nan'), 1, 9, 9]]), '1 annotation with a NaN or infinite va'),
    'an infinite polygon': (first(segmentation=[[1, 1, 9, 1, 9, float('-inf')]]), '1 annotation with a NaN or infinit'),
    'a polygon far away': (first(segmentation=[[1, 1, 1e9, 1, 9, 9]]), 'a polygon further than 10 image sizes'),
    'a segmentation of text': (first(segmentation='mask.png'), 'neither a list of polygons nor run lengths (id 1 of 1'),
    'run lengths without size': (first(segmentation=dict(counts=[1])), 'run lengths without size or counts'),
    'run lengths of another size': (runs([WIDTH * HEIGHT], (WIDTH, HEIGHT)), 'in an image of 40x30): size is [height,'),
    'run lengths that are short': (runs([10, 10]), 'run lengths that do not fill the image'),
    'run lengths below 0': (runs([-10, WIDTH * HEIGHT + 10]), 'run lengths that do not fill the image'),
    'run lengths of text': (runs(['1', '2']), 'run lengths that do not fill the image'),
    'compressed run lengths cut off': (runs('`'), 'run lengths that do not fill the image'),
    'compressed run lengths of an image of other size': (runs('P2'), 'run lengths that do not fill the image'),
    'compressed run lengths of odd characters': (runs('é~'), 'run lengths that do not fill the image'),
}  # fmt: skip


def write(folder: Path, change: Change | None = None) -> Path:
    """Write an annotation file and its images."""
    damaged = content()
    if change is not None:
        change(damaged)
    (folder / 'images').mkdir(exist_ok=True)
    for number in (1, 2):
        Image.new('RGB', (WIDTH, HEIGHT)).save(folder / 'images' / f'{number}.png')
    path = folder / 'instances.json'
    path.write_text(json.dumps(damaged))
    return path


def check(path: Path, **options: Any) -> tuple[str, list[str]]:
    options = dict(masks=True) | options
    found, report = check_coco_files(path, str(path.parent / 'images'), str(path.parent), **options)
    return found.sentence, report.notes


def test_a_valid_file_has_no_problems(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert check(path) == ('', [])
    assert check_annotations(path, masks=True).objects == {'bolt': 2, 'nut': 2}


@pytest.mark.parametrize('kind', FATAL)
def test_errors_are_reported_in_one_line(kind: str, tmp_path: Path) -> None:
    change, expected = FATAL[kind]
    path = write(tmp_path, change)
    try:
        sentence, _ = check(path)
    except InputError as error:
        sentence = str(error)
    assert expected in sentence and sentence.startswith(str(path)) and '\n' not in sentence
    assert len(sentence.replace(str(path), '')) < 600


TEXTS = {
    'an empty file': (b'', 'is empty: export or copy it again'),
    'a truncated file': (b'{"images": [{"id": 1', 'is truncated (line 1, column'),
    'a file truncated in a string': (b'{"images": [{"file_name": "1.p', 'is truncated'),
    'a file that is no JSON': (b'<annotation></annotation>', 'is not valid JSON (line 1, column 1: Expecting value)'),
    'a file in another encoding': ('{"é": 1}'.encode('latin-1'), 'is not UTF-8 text (byte 2)'),
    'a file of predictions': (b'[{"image_id": 1}]', 'is a list, like a file of predictions'),
    'a file that is a number': (b'3', 'is 3: an annotation file in the format of COCO is a dict'),
    'a file that is nested': (b'[' * 100_000, 'is nested too deeply'),
}


@pytest.mark.parametrize('kind', TEXTS)
def test_files_that_are_not_annotation_files_are_an_error(kind: str, tmp_path: Path) -> None:
    text, expected = TEXTS[kind]
    path = write(tmp_path)
    path.write_bytes(text)
    with pytest.raises(InputError, match=r'annotation file|again') as error:
        check(path)
    assert expected in str(error.value)


def move(path: Path, name: str) -> None:
    """Change the file_name of the first image."""
    damaged = json.loads(path.read_text())
    damaged['images'][0]['file_name'] = name
    path.write_text(json.dumps(damaged))


NAMES = {
    'an absent image': ('3.png', '1 image missing from {}/images (3.png): copy the images there'),
    'another suffix': ('1.JPG', 'there is 1.png: write the names of the files exactly'),
    'a backslash': ('images\\1.png', 'their names have backslashes: write /'),
    'the folder twice': ('images/1.png', 'their names start with images/, but the folder of images already ends with'),
    'a path outside the data root': ('../../1.png', '1 file_name outside the data root'),
    'an absolute path outside the data root': ('/etc/hostname', '1 file_name outside the data root'),
}


@pytest.mark.parametrize('kind', NAMES)
def test_images_that_do_not_exist_are_reported_with_a_remedy(kind: str, tmp_path: Path) -> None:
    name, expected = NAMES[kind]
    path = write(tmp_path)
    move(path, name)
    assert expected.format(tmp_path) in check(path)[0]


DROPPED: dict[str, tuple[Change, str]] = {
    'a box without width': (first(bbox=[5, 6, 0, 12]), '1 annotation with a bbox less than one pixel wide or high ('),
    'a box of negative width': (first(bbox=[9, 9, -4, 5]), 'MMDetection does not train on them.'),
    'a box outside its image': (first(bbox=[90, 90, 20, 20]), '1 annotation with a bbox outside its image'),
    'an area of 0': (first(area=0), '1 annotation with an area of 0 or less'),
    'the flag ignore': (first(ignore=1), '1 annotation with the flag ignore'),
    'a crowd': (first(iscrowd=1), '1 crowd (iscrowd 1) (id 1 of 1.png): neither trained on nor scored.'),
    'annotation ids twice': (first(id=2), '1 annotation id used more than once (2): all are renumbered in memory.'),
    'no annotation id': (without('annotations', 'id'), '1 annotation without an id'),
    'a file of two images': (image(file_name='2.png'), "1 file listed as several images (2.png)"),
    'a short polygon among others': (
        first(segmentation=[[1, 1, 9, 1, 9, 9], [1, 1]]),
        'one polygon of fewer than three points among others',
    ),
}  # fmt: skip


@pytest.mark.parametrize('kind', DROPPED)
def test_entries_that_mmdetection_ignores_or_changes_are_notes(kind: str, tmp_path: Path) -> None:
    change, expected = DROPPED[kind]
    sentence, notes = check(write(tmp_path, change))
    assert sentence == '' and len(notes) == 1 and expected in notes[0]


HARMLESS: dict[str, Change] = {
    'text ids on both sides': lambda c: [
        *(one.update(id=str(one['id'])) for one in c['images']),
        *(one.update(image_id=str(one['image_id'])) for one in c['annotations']),
    ],
    'float ids': lambda c: [one.update(image_id=float(one['image_id'])) for one in c['annotations']],
    'no iscrowd and no area': lambda c: [(one.pop('iscrowd'), one.pop('area')) for one in c['annotations']],
    'no objects': lambda c: c.update(annotations=[]),
    'an image without objects': lambda c: c['annotations'].__delitem__(slice(2, None)),
    'run lengths': runs([100, 200, WIDTH * HEIGHT - 300]),
    'compressed run lengths': runs('T3X6XO'),
    'boxes a little outside': first(bbox=[-3, -3, 50, 40]),
}


@pytest.mark.parametrize('kind', HARMLESS)
def test_valid_variations_are_accepted(kind: str, tmp_path: Path) -> None:
    change = HARMLESS[kind]
    if kind == 'compressed run lengths':
        coco_mask = pytest.importorskip('pycocotools.mask')
        mask = np.zeros((HEIGHT, WIDTH), np.uint8, order='F')
        mask[6:18, 5:15] = 1
        change = runs(coco_mask.encode(mask)['counts'].decode())
    assert check(write(tmp_path, change)) == ('', [])


def test_masks_are_not_checked_without_the_option(tmp_path: Path) -> None:
    path = write(tmp_path, first(segmentation=[[float('nan')] * 6]))
    assert check(path, masks=False) == ('', [])


def test_the_first_kind_has_three_examples_and_the_others_are_counted(tmp_path: Path) -> None:
    def change(c: dict[str, Any]) -> None:
        each(bbox=None)(c)
        first(image_id=7)(c)

    sentence, _ = check(write(tmp_path, change))
    assert '4 annotations with a bbox' not in sentence.partition('. It also has ')[0]
    assert sentence.endswith('. It also has 4 annotations with a bbox that is not four finite numbers.')
    sentence, _ = check(write(tmp_path, each(bbox=None)))
    assert sentence.count('of 1.png') + sentence.count('of 2.png') == 3


def test_pixels_of_run_lengths_from_pycocotools_is_the_image_area() -> None:
    coco_mask = pytest.importorskip('pycocotools.mask')
    rng = np.random.default_rng(0)
    texts, areas = [], []
    for share in (0.0, 0.01, 0.2, 0.5, 0.9, 1.0) * 3:
        height, width = (int(side) for side in rng.integers(1, 300, 2))
        mask = np.asfortranarray(rng.random((height, width)) < share, np.uint8)
        texts.append(coco_mask.encode(mask)['counts'].decode())
        areas.append(height * width)
    assert pixels_of(texts).tolist() == areas


def test_the_result_for_a_large_file_is_cached_until_it_or_its_images_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / 'data'
    data.mkdir()
    path = write(data, first(iscrowd=1))
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    before = sorted(data.rglob('*'))
    notes = check(path)[1]
    assert not (tmp_path / 'cache').exists()
    monkeypatch.setattr(coco_files, 'MIN_CACHED_SIZE', 1)
    assert check(path)[1] == notes
    assert sorted(data.rglob('*')) == before and len(list((tmp_path / 'cache').rglob('*.json'))) == 1

    with monkeypatch.context() as patched:
        patched.setattr(coco_files, 'check_annotations', lambda *_: pytest.fail('read again'))
        assert check(path) == ('', notes)
    (data / 'images/2.png').unlink()
    assert '1 image missing' in check(path)[0]
    Image.new('RGB', (WIDTH, HEIGHT)).save(data / 'images/2.png')
    path.write_text(json.dumps(content() | {'images': []}))
    os.utime(path, ns=(1, 1))
    with pytest.raises(InputError, match='lists no images'):
        check(path)
