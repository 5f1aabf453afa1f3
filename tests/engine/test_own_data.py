"""Custom data in installed configs: dataset.toml, options, label maps and invalid input."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from swin_backbone.datasets.label_maps import write_label_maps
from swin_backbone.engine.class_check import find_data_sets
from swin_backbone.engine.class_names import heads_in
from swin_backbone.engine.own_data import choose_data, find_images, own_data, read_dataset_file
from swin_backbone.errors import InputError
from swin_backbone.files import find_config
from tests.demo_models import read_config

NAMES = ('bolt', 'nut', 'washer')
CONFIGS = (
    'detection/cascade_swin_demo',
    'detection/mask2former_swin_t_50e',
    'detection/sparse_rcnn_swin_t_3x',
    'detection/htc_swin_b_6x',
    'detection/atss_swin_t_3x',
    'segmentation/upernet_swin_t_160k',
    'segmentation/danet_r101_160k',
)
TOML = """
classes = ["bolt", "nut", "washer"]

[train]
annotations = "train.json"

[val]
images = "photos"
annotations = "val.json"
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Write two images with a bolt, and with a nut on a washer, their COCO files and label maps."""
    (tmp_path / 'photos').mkdir()
    (tmp_path / 'images').symlink_to(tmp_path / 'photos')
    for name in ('train', 'val'):
        (tmp_path / 'maps' / name).mkdir(parents=True)
    images = [dict(id=number, file_name=f'{number}.jpg', width=40, height=30) for number in (1, 2)]
    boxes = [(1, 1, (2, 3, 10, 8)), (2, 3, (0, 0, 30, 20)), (2, 2, (5, 5, 4, 4))]
    annotations = [
        dict(id=i, image_id=image, category_id=category, bbox=box, area=box[2] * box[3], iscrowd=0)
        | dict(segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]])
        for i, (image, category, box) in enumerate(boxes, start=1)
        for x, y, w, h in [box]
    ]
    categories = [dict(id=number, name=name) for number, name in enumerate(NAMES, start=1)]
    for name in ('train', 'val'):
        content = dict(images=images, annotations=annotations, categories=categories)
        (tmp_path / f'{name}.json').write_text(json.dumps(content))
        for image in images:
            labels = np.full((30, 40), image['id'], np.uint8)
            Image.fromarray(labels).save(tmp_path / 'maps' / name / f'{image["id"]}.png')
    for image in images:
        Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(tmp_path / 'photos' / image['file_name'])
    (tmp_path / 'dataset.toml').write_text(TOML)
    return tmp_path


def load(name: str, work_dir: Path) -> Config:
    config = copy.deepcopy(read_config(find_config(name)))
    config.work_dir = str(work_dir)
    return config


def needs_other_maps(config: Config) -> bool:
    return any(step.get('with_seg') for one in find_data_sets(config) for step in one.get('pipeline') or ())


@pytest.mark.parametrize('name', CONFIGS)
def test_every_config_reads_custom_data(name: str, data: Path) -> None:
    config = load(name, data / 'work')
    own = own_data(str(data / 'dataset.toml'), None, None, None)
    if needs_other_maps(config):
        with pytest.raises(InputError, match='choose a config without'):
            choose_data(config, own, ('train', 'val'))
        return
    choose_data(config, own, ('train', 'val'))
    semantic = name.startswith('segmentation')
    counts = {head.get('num_classes', head.get('num_things_classes')) for head in heads_in(config.model)}
    assert counts == {len(NAMES) + semantic}
    for one in find_data_sets(config):
        assert one['metainfo']['classes'] == (('background',) if semantic else ()) + NAMES
        folder = one['data_prefix']['img_path' if semantic else 'img']
        assert (Path(folder) / '1.jpg').is_file() and Path(one['ann_file']).is_file()


def test_custom_data_can_be_given_by_options(data: Path) -> None:
    config = load('atss_swin_t_3x', data / 'work')
    own = own_data(None, str(data / 'train.json'), str(data / 'val.json'), str(data))
    choose_data(config, own, ('train', 'val'), classes='nut,bolt')
    assert config.train_dataloader.dataset.metainfo.classes == ('bolt', 'nut')
    assert config.val_evaluator.ann_file == str(data / 'val.json')


@pytest.mark.parametrize('ignored', [True, False])
def test_custom_label_maps_are_read_without_conversion(data: Path, ignored: bool) -> None:
    config = load('upernet_swin_t_160k', data / 'work')
    toml = f'classes = ["bolt", "nut"]\nignore_label_0 = {str(ignored).lower()}\n'
    toml += (
        '[train]\nannotations = "maps/train"\nimages = "photos"\n[val]\nannotations = "maps/val"\nimages = "photos"\n'
    )
    (data / 'maps.toml').write_text(toml)
    own = own_data(str(data / 'maps.toml'), None, None, None)
    if not ignored:
        with pytest.raises(InputError, match='contains label 2, but the 2 classes have the labels 0 to 1'):
            choose_data(config, own, ('train', 'val'), classes='bolt,nut')
        return
    choose_data(config, own, ('train', 'val'))
    (one,) = find_data_sets(config, ('train_dataloader',))
    assert one['type'] == 'BaseSegDataset' and one['reduce_zero_label'] is True and one['img_suffix'] == '.jpg'
    assert not any('reduce_zero_label' in step for step in one['pipeline'])


def test_polygons_are_converted_to_label_maps(data: Path) -> None:
    assert write_label_maps(data / 'train.json', data / 'out', ['background', *NAMES]) == ['1', '2']
    labels = np.asarray(Image.open(data / 'out' / '2.png'))
    assert labels.shape == (30, 40) and labels[6, 6] == 2 and labels[1, 1] == 3 and labels[25, 35] == 0
    assert (data / 'out' / 'images.txt').read_text() == '1\n2\n'
    with pytest.raises(InputError, match="class 'screw' is not in"):
        write_label_maps(data / 'train.json', data / 'out', ['background', 'screw'])


def test_find_images_searches_next_to_the_annotations(data: Path, tmp_path: Path) -> None:
    assert find_images(data / 'train.json', data) == data / 'images'
    assert find_images(data / 'maps' / 'train', data) == data / 'images'
    (data / 'lost').mkdir()
    content = json.loads((data / 'train.json').read_text())
    content['images'][0]['file_name'] = 'nowhere.jpg'
    (data / 'lost' / 'train.json').write_text(json.dumps(content))
    with pytest.raises(InputError, match=r'such as nowhere\.jpg, are not in'):
        find_images(data / 'lost' / 'train.json', data)


@pytest.mark.parametrize(
    ('toml', 'message'),
    [
        ('classes = 3', 'classes must be a list'),
        ('clases = []', 'unknown key clases'),
        ('[train]\nimages = "a"', r'\[train\] has no annotations'),
        ('[train]\nannotations = "a"\nimgs = "b"', r'unknown key train\.imgs'),
        ('no toml', 'is not valid TOML'),
    ],
)
def test_invalid_dataset_files_raise_input_error(toml: str, message: str, tmp_path: Path) -> None:
    (tmp_path / 'dataset.toml').write_text(toml)
    with pytest.raises(InputError, match=message):
        read_dataset_file(str(tmp_path / 'dataset.toml'))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(dataset='none.toml'), 'does not exist'),
        (dict(dataset='dataset.toml', train_ann='train.json'), 'defines all files'),
    ],
)
def test_invalid_data_options_raise_input_error(options: dict[str, Any], message: str) -> None:
    named = dict(dict.fromkeys(('dataset', 'train_ann', 'val_ann', 'root')), **options)
    with pytest.raises(InputError, match=message):
        own_data(**named)


def test_a_missing_split_raises_input_error(data: Path) -> None:
    own = own_data(None, str(data / 'train.json'), None, str(data))
    with pytest.raises(InputError, match='no val split: add --val-ann'):
        choose_data(load('atss_swin_t_3x', data / 'work'), own, ('train', 'val'))
