"""Converting, splitting, subsetting and drawing annotations."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swin_backbone.cli import prepare_data
from swin_backbone.datasets.convert import convert, split, subset
from swin_backbone.errors import InputError

NAMES = ['bolt', 'nut']


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four images with one polygon each; the two classes alternate."""
    (tmp_path / 'images').mkdir()
    images, annotations = [], []
    for number in range(1, 5):
        images.append(dict(id=number, file_name=f'{number}.jpg', width=40, height=30))
        Image.fromarray(np.full((30, 40, 3), 90, np.uint8)).save(tmp_path / 'images' / f'{number}.jpg')
        box = [4, 2 * number, 20, 10]
        x, y, w, h = box
        polygon = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        annotations.append(
            dict(id=number, image_id=number, category_id=1 + number % 2, bbox=box, area=200, iscrowd=0)
            | dict(segmentation=polygon)
        )
    categories = [dict(id=1, name='bolt'), dict(id=2, name='nut')]
    content = dict(images=images, annotations=annotations, categories=categories)
    (tmp_path / 'all.json').write_text(json.dumps(content))
    return tmp_path


def boxes(path: Path) -> dict[str, tuple[str, list[float]]]:
    content = json.loads(path.read_text())
    files = {one['id']: Path(one['file_name']).name for one in content['images']}
    names = {one['id']: one['name'] for one in content['categories']}
    return {files[a['image_id']]: (names[a['category_id']], a['bbox']) for a in content['annotations']}


@pytest.mark.parametrize('form', ['yolo', 'voc'])
def test_annotations_survive_a_round_trip(form: str, data: Path) -> None:
    pytest.importorskip('supervision', reason='supervision is not installed')
    images = data / 'images'
    assert convert(data / 'all.json', images, 'coco', data / form, form) == 4
    assert convert(data / form, images, form, data / 'back.json', 'coco') == 4
    before, after = boxes(data / 'all.json'), boxes(data / 'back.json')
    assert before.keys() == after.keys()
    for file, (name, box) in before.items():
        assert after[file][0] == name and np.allclose(after[file][1], box, atol=1.01)
    assert json.loads((data / 'back.json').read_text())['annotations'][0]['segmentation']
    with pytest.raises(InputError, match=r'back\.json exists'):
        convert(data / form, images, form, data / 'back.json', 'coco')


def test_split_and_subset_keep_the_selected_images(data: Path) -> None:
    train, val = split(data / 'all.json', 0.25, 0)
    assert len(boxes(train)) == 3 and len(boxes(val)) == 1 and boxes(train) | boxes(val) == boxes(data / 'all.json')
    with pytest.raises(InputError, match='leaves a split empty'):
        split(data / 'all.json', 1.0, 0)
    assert subset(data / 'all.json', data / 'nuts.json', 1, ['nut']) == 1
    assert [name for name, _ in boxes(data / 'nuts.json').values()] == ['nut']
    with pytest.raises(InputError, match="class 'screw' is not in"):
        subset(data / 'all.json', data / 'screws.json', None, ['screw'])


def test_a_contact_sheet_is_drawn(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare_data.main(['sheet', str(data / 'all.json'), str(data / 'sheet.png'), '--images', str(data / 'images')])
    assert 'sheet.png: 4 images' in capsys.readouterr().out
    assert np.asarray(Image.open(data / 'sheet.png')).std() > 10
