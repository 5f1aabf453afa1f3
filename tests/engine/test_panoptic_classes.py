"""Panoptic data sets: checks of files and classes, and training of a panoptic model."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip('mmdet')

from mmengine.config import Config
from PIL import Image

from swin_backbone.datasets.shapes import CLASSES, STUFF_CLASSES, ShapesSpec, write_shapes
from swin_backbone.engine.class_check import check_classes, check_ground_truth
from swin_backbone.engine.class_names import fit_to_data, name_classes, set_classes
from swin_backbone.engine.config import move_data_root, use_own_types
from swin_backbone.engine.data_check import check_files
from swin_backbone.engine.panoptic_classes import things_among
from swin_backbone.errors import InputError
from swin_backbone.model_zoo import config_trials
from tests.model_zoo import counted_configs

NAME = 'mask2former_panoptic_swin_t_50e'
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
TRAIN = 'annotations/panoptic_train2017'


def write_panoptic(root: Path, split: str, semantic: str) -> None:
    """Write panoptic annotations of a split of the shapes, from its instances and label maps."""
    from pycocotools.coco import COCO

    coco = COCO(str(root / f'annotations/instances_{split}2017.json'))
    folder = root / f'annotations/panoptic_{split}2017'
    folder.mkdir()
    annotations = []
    for image in coco.dataset['images']:
        labels = np.asarray(Image.open(root / 'annotations' / semantic / image['file_name'].replace('.jpg', '.png')))
        masks = [(coco.annToMask(one) > 0, one['category_id'], one['iscrowd']) for one in coco.imgToAnns[image['id']]]
        masks += [(labels == label, label, 0) for label in range(len(CLASSES) + 1, int(labels.max()) + 1)]
        ids, segments = np.zeros(labels.shape, np.int64), []
        for number, (mask, category, crowd) in enumerate(masks, start=300):
            if mask.any():
                ids[mask] = number
                rows, columns = np.nonzero(mask)
                box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
                segments.append(
                    dict(id=number, category_id=category, iscrowd=crowd, area=int(mask.sum()), bbox=list(map(int, box)))
                )
        colours = np.stack([ids % 256, ids // 256, ids * 0], axis=-1).astype(np.uint8)
        Image.fromarray(colours).save(folder / image['file_name'].replace('.jpg', '.png'))
        annotations.append(dict(image_id=image['id'], segments_info=segments))
    categories = [
        dict(id=number, name=name, isthing=int(name in CLASSES))
        for number, name in enumerate((*CLASSES, *STUFF_CLASSES), start=1)
    ]
    content = dict(images=coco.dataset['images'], annotations=annotations, categories=categories)
    folder.with_suffix('.json').write_text(json.dumps(content))


@pytest.fixture(scope='module')
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('data') / 'shapes'
    write_shapes(root, ShapesSpec(train_count=4, val_count=2, crowd_share=0.25))
    for split, semantic in (('train', 'training'), ('val', 'validation')):
        write_panoptic(root, split, semantic)
    return root


@pytest.fixture
def own(shapes: Path, tmp_path: Path) -> Path:
    """Return a copy of the data that a test may damage; only annotation files are copied, others are hard links."""
    root = tmp_path / 'own'
    for path in shapes.rglob('*'):
        target = root / path.relative_to(shapes)
        if path.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes()) if path.suffix == '.json' else target.hardlink_to(path)
    return root


def load(root: Path) -> Config:
    config = counted_configs.config(NAME)
    move_data_root(config, str(root))
    return config


@pytest.mark.parametrize('names', [(*CLASSES, *STUFF_CLASSES), ('star', 'circle', 'water')])
def test_things_and_stuff_are_read_from_the_annotation_file(names: tuple[str, ...], shapes: Path) -> None:
    config = load(shapes)
    fit_to_data(config, ','.join(names), no_masks=False)
    things, stuff = sum(name in CLASSES for name in names), sum(name in STUFF_CLASSES for name in names)
    model = config.model
    for head in (model.panoptic_head, model.panoptic_fusion_head):
        assert (head.num_things_classes, head.num_stuff_classes) == (things, stuff)
    assert model.panoptic_head.loss_cls.class_weight == [1.0] * (things + stuff) + [0.1]
    for loader in LOADERS:
        meta = config[loader].dataset.metainfo
        assert (len(meta.thing_classes), len(meta.stuff_classes), len(meta.palette)) == (things, stuff, things + stuff)
        assert meta.classes == meta.thing_classes + meta.stuff_classes
    check_classes(config, LOADERS)


def edit(root: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = root / f'{TRAIN}.json'
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda c: c['categories'][0].pop('isthing'), 'does not define whether circle is a thing'),
        (lambda c: c['categories'][0].update(isthing=0), 'lists the stuff class circle before the thing class cross'),
        (lambda c: c['categories'][5].update(isthing=0), 'disagree on whether cross is a thing'),
    ],
)
def test_invalid_thing_and_stuff_categories_raise_input_error(change: Any, message: str, own: Path) -> None:
    edit(own, change)
    with pytest.raises(InputError, match=message):
        set_classes(load(own), (*CLASSES, *STUFF_CLASSES))


def test_a_missing_panoptic_file_raises_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'separates things from stuff.*does not exist'):
        name_classes(load(tmp_path), ['bolt', 'floor'])
    assert things_among(counted_configs.config('mask2former_swin_t_50e'), ['bolt']) is None


def first_map(root: Path) -> Path:
    return sorted((root / TRAIN).iterdir())[0]


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    'no segments': (
        lambda root: edit(root, lambda c: c['annotations'][0].pop('segments_info')),
        '1 annotation without segments_info',
    ),
    'an unknown image': (
        lambda root: edit(root, lambda c: c['annotations'][0].update(image_id=7)),
        '1 annotation with an unknown image_id (7)',
    ),
    'an unknown category': (
        lambda root: edit(root, lambda c: c['annotations'][0]['segments_info'][0].update(category_id=99)),
        '1 segment with an unknown category_id',
    ),
    'no area': (
        lambda root: edit(root, lambda c: c['annotations'][0]['segments_info'][0].pop('area')),
        '1 segment with missing keys',
    ),
    'a box': (
        lambda root: edit(root, lambda c: c['annotations'][0]['segments_info'][0].update(bbox=[1, 2])),
        '1 segment with a bbox that is not four finite numbers',
    ),
    'the order': (
        lambda root: edit(root, lambda c: c['categories'].reverse()),
        "3 categories of stuff listed before things ('ground'; 'water'; 'sky')",
    ),
    'another id': (
        lambda root: edit(root, lambda c: c['annotations'][0]['segments_info'][0].update(id=5)),
        '1 map without a segment of its image',
    ),
    'a map': (lambda root: first_map(root).unlink(), '1 map missing'),
    'a broken map': (
        lambda root: (first_map(root).unlink(), first_map(root).with_name('000000000001.png').write_bytes(b'x')),
        '1 map that cannot be read',
    ),
    'an image': (lambda root: sorted((root / 'train2017').iterdir())[0].unlink(), '1 image missing from'),
}


@pytest.mark.parametrize('kind', DAMAGE)
def test_damaged_panoptic_data_raise_input_error(kind: str, own: Path) -> None:
    change, expected = DAMAGE[kind]
    change(own)
    with pytest.raises(InputError) as error:
        check_files(load(own), LOADERS[:2])
    assert expected in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize('extent', ['sample', 'full'])
def test_valid_panoptic_files_pass(extent: str, shapes: Path) -> None:
    config = load(shapes)
    set_classes(config, (*CLASSES, *STUFF_CLASSES))
    check_files(config, LOADERS[:2], extent)
    check_ground_truth(config, 'val_dataloader', 'val_evaluator')


def test_an_evaluator_file_of_other_images_raises_input_error(own: Path) -> None:
    config = load(own)
    config.val_evaluator[1].ann_file = str(own / 'annotations/instances_train2017.json')
    with pytest.raises(
        InputError, match=r'is missing there or has a different file name\. Use a file of the same images'
    ):
        check_ground_truth(config, 'val_dataloader', 'val_evaluator')


@pytest.fixture
def panopticapi(monkeypatch: pytest.MonkeyPatch) -> None:
    """Provide the function of panopticapi that reads maps, because the package may not be installed."""
    package, utils = ModuleType('panopticapi'), ModuleType('panopticapi.utils')
    utils.rgb2id = lambda colour: colour.astype(np.int64) @ (1, 256, 65536)  # type: ignore[attr-defined]
    package.utils = utils  # type: ignore[attr-defined]
    for module in (package, utils):
        monkeypatch.setitem(sys.modules, module.__name__, module)


SMALL = dict(variant=None, embed_dim=32, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8))


def small(config: Config) -> Config:
    config.model.backbone.update(SMALL)
    config.model.panoptic_head.update(in_channels=[32, 64, 128, 256], num_queries=20)
    config.model.panoptic_head.transformer_decoder.num_layers = 3
    config.model.panoptic_head.pixel_decoder.encoder.num_layers = 1
    return config


def test_a_panoptic_model_trains_and_is_evaluated(shapes: Path, panopticapi: None) -> None:
    """PQ is left out, because MMDetection computes it with panopticapi."""
    config = small(load(shapes))
    set_classes(config, (*CLASSES, *STUFF_CLASSES))
    config_trials.set_weights(config, 'none')
    config_trials.shrink(config, 64)
    config.val_evaluator = [config.val_evaluator[1]]
    use_own_types(config)
    loss, unreached, metrics = config_trials.run(config)
    assert 0 < loss < 1000 and not unreached
    assert 'coco/segm_mAP' in metrics


def test_a_trial_without_panopticapi_uses_instances(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_trials, 'find_spec', lambda name: None)
    config = small(counted_configs.config(NAME))
    assert config_trials.prepare(config, str(shapes), 64) == ('instances instead of things and stuff',)
    assert config.model.panoptic_head.num_stuff_classes == 0
    loss, unreached, metrics = config_trials.run(config)
    assert 0 < loss < 1000 and not unreached
    assert 'coco/segm_mAP' in metrics
