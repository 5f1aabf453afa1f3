"""Checks of public data sets: every missing piece is named, and what is there is counted."""

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip('PIL.Image', reason='Pillow is not installed')

from swin_backbone.datasets.prepare import DATA_SETS, IncompleteError, archives_of, prepare
from swin_backbone.datasets.shapes import ShapesSpec, write_shapes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The embedded data set has the layouts of both."""
    folder = tmp_path / 'my data'
    write_shapes(folder, ShapesSpec(train_count=3, val_count=2))
    return folder


def check(name: str, root: Path) -> list[str]:
    return prepare(DATA_SETS[name], root, fetch=False)


def test_a_whole_coco_is_counted_and_can_be_trained_on(root: Path) -> None:
    lines = check('coco', root)
    objects = len(json.loads((root / 'annotations/instances_train2017.json').read_text())['annotations'])
    text = '\n'.join(lines)
    assert f'instances_train2017.json: 3 pictures, {objects} instances (an excerpt' in text
    assert 'val2017: 2 pictures' in text
    assert lines[-1] == (f"  python tools/train.py configs/detection/cascade_swin_t_3x.py --data-root '{root}'")


def test_a_whole_ade20k_is_counted_and_can_be_trained_on(root: Path) -> None:
    text = '\n'.join(check('ade20k', root))
    assert 'images/training: 3 pictures' in text and 'annotations/validation: 2 label maps' in text
    assert 'configs/segmentation/upernet_swin_t_160k.py --data-root' in text


def test_every_missing_piece_of_coco_is_named(root: Path) -> None:
    (root / 'train2017' / '000000000002.jpg').unlink()
    (root / 'annotations' / 'instances_val2017.json').unlink()
    with pytest.raises(IncompleteError) as caught:
        check('coco', root)
    sentence = str(caught.value)
    assert 'train2017 lacks 1 files, the first is 000000000002.jpg' in sentence
    assert 'annotations/instances_val2017.json is missing' in sentence and '--download' in sentence
    assert any('MISSING: 000000000002.jpg' in line for line in caught.value.lines)
    wanted = [archive.name for archive in archives_of(DATA_SETS['coco'].check(root), ())]
    assert wanted == ['train2017.zip', 'annotations_trainval2017.zip']
    extras = [archive.name for archive in archives_of(DATA_SETS['coco'].check(root), ('test', 'stuff'))]
    assert extras[2:] == ['stuffthingmaps_trainval2017.zip', 'image_info_test2017.zip', 'test2017.zip']


@pytest.mark.parametrize(
    ('content', 'clause'),
    [
        ('{"images": [', 'cannot be read as COCO annotations'),
        ('{"annotations": []}', 'cannot be read as COCO annotations'),
        ('{"images": [], "annotations": [{"image_id": 7}]}', 'has 1 instances of pictures that it does not list'),
    ],
)
def test_damaged_annotations_are_said_to_be(root: Path, content: str, clause: str) -> None:
    (root / 'annotations' / 'instances_train2017.json').write_text(content)
    with pytest.raises(IncompleteError, match=clause):
        check('coco', root)


def test_every_missing_piece_of_ade20k_is_named(root: Path) -> None:
    from PIL import Image

    (root / 'annotations/training/000000000001.png').unlink()
    (root / 'images/training/000000000002.jpg').unlink()
    label_map = next((root / 'annotations/validation').iterdir())
    Image.new('L', (4, 4), 151).save(label_map)
    with pytest.raises(IncompleteError) as caught:
        check('ade20k', root)
    sentence = str(caught.value)
    assert 'annotations/training lacks 1 files, the first is 000000000001.png' in sentence
    assert 'images/training lacks 1 files, the first is 000000000002.jpg' in sentence
    assert f'holds {label_map.name} with class 151, where the last is 150' in sentence


def test_a_link_that_a_copy_did_not_keep_is_told_from_a_missing_folder(root: Path) -> None:
    shutil.rmtree(root / 'images' / 'training')
    (root / 'images' / 'training').write_text('../../photographs')
    with pytest.raises(IncompleteError, match='images/training is a file where a folder belongs') as error:
        check('ade20k', root)
    assert 'images/training is missing' not in str(error.value)
    assert any('images/training: WRONG: is a file' in line for line in error.value.lines)


@pytest.mark.parametrize('name', ['coco', 'ade20k'])
def test_an_empty_folder_lacks_everything(tmp_path: Path, name: str) -> None:
    with pytest.raises(IncompleteError) as caught:
        check(name, tmp_path)
    clauses = str(caught.value).partition('. Fetch')[0].split('; ')
    assert len(clauses) == 4 and all(clause.endswith(' is missing') for clause in clauses)
