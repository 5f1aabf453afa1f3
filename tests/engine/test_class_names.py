"""Adaptation of configs to other classes and to data without masks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

from mmengine.config import Config
from PIL import Image

from swin_backbone.datasets.shapes import ShapesSpec, write_shapes
from swin_backbone.engine.class_names import drop_masks, fit_to_data, heads_in, palette, read_classes, set_head_classes
from swin_backbone.engine.config import move_data_root
from swin_backbone.errors import InputError
from swin_backbone.model_zoo import config_trials as smoke
from tests.model_zoo import counted_configs

NAMES = ['bolt', 'nut', 'washer']


def load(name: str, root: Path | None = None) -> Config:
    config = counted_configs.config(name)
    if root is not None:
        move_data_root(config, str(root))
    return config


def coco_root(folder: Path, train: list[str], val: list[str] | None = None) -> Path:
    """Write annotation files with categories only."""
    for split, names in (('train', train), ('val', val or train)):
        path = folder / f'annotations/instances_{split}2017.json'
        path.parent.mkdir(exist_ok=True)
        content = dict(images=[], annotations=[], categories=[dict(id=i, name=n) for i, n in enumerate(names)])
        path.write_text(json.dumps(content))
    return folder


def ade_root(folder: Path, labels: list[int]) -> Path:
    """Write a data folder whose label maps contain ``labels``."""
    for split in ('training', 'validation'):
        for kind in ('images', 'annotations'):
            (folder / kind / split).mkdir(parents=True)
        Image.fromarray(np.array([labels], dtype=np.uint8)).save(folder / 'annotations' / split / 'a.png')
    return folder


def data_sets(config: Config) -> list[dict[str, Any]]:
    return [config[loader].dataset for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader')]


@pytest.mark.parametrize('separator', [',', ', ', '\n'])
def test_class_names_are_read_from_the_option_or_a_file(separator: str, tmp_path: Path) -> None:
    text = separator.join(NAMES)
    if separator == '\n':
        (tmp_path / 'names.txt').write_text(text + '\n\n')
        text = str(tmp_path / 'names.txt')
    assert read_classes(text) == NAMES


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('', 'empty name'),
        ('bolt,,nut', 'empty name'),
        ('bolt,nut,bolt', 'bolt more than once'),
        ('absent/names.txt', 'does not exist'),
    ],
)
def test_invalid_class_lists_raise_input_error(option: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_classes(option)


@pytest.mark.parametrize(
    ('name', 'heads'),
    [
        ('cascade_swin_t_3x', 4),
        ('htc_swin_b_6x', 6),
        ('sparse_rcnn_swin_t_3x', 6),
        ('atss_swin_t_3x', 1),
        ('reppoints_v2_swin_t_3x', 1),
    ],
)
def test_every_head_and_data_set_gets_the_classes(name: str, heads: int, tmp_path: Path) -> None:
    config = load(name, coco_root(tmp_path, ['bolt', 'pin', 'nut', 'washer']))
    fit_to_data(config, ','.join(NAMES), no_masks=False)
    assert [head['num_classes'] for head in heads_in(config.model)] == [3] * heads
    for data_set in data_sets(config):
        assert data_set.metainfo.classes == tuple(NAMES)
        assert len(data_set.metainfo.palette) == 3
    if name.startswith('htc'):
        assert config.model.roi_head.semantic_head.num_classes == 183  # stuff maps have their own classes


def test_classes_get_the_order_of_the_annotation_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """MMDetection numbers the classes in the order of the annotation file."""
    config = load('atss_swin_t_3x', coco_root(tmp_path, ['washer', 'nut', 'bolt']))
    fit_to_data(config, ','.join(NAMES), no_masks=False)
    assert config.train_dataloader.dataset.metainfo.classes == ('washer', 'nut', 'bolt')
    assert 'classes reordered as in the annotation file: washer, nut, bolt' in caplog.text


@pytest.mark.parametrize(
    ('train', 'val', 'message'),
    [
        (['bolt', 'nut', 'washers'], None, "class 'washer' is not in .* did you mean 'washers'"),
        (['bolt', 'nut', 'washer'], ['bolt', 'nut'], "class 'washer' is not in .*val2017"),
        (['bolt', 'nut', 'washer'], ['nut', 'bolt', 'washer'], 'different orders'),
        (['bolt', 'nut', 'washer', 'nut'], None, 'two categories with the same name'),
    ],
)
def test_classes_are_checked_against_the_annotations(
    train: list[str], val: list[str] | None, message: str, tmp_path: Path
) -> None:
    config = load('cascade_swin_t_3x', coco_root(tmp_path, train, val))
    with pytest.raises(InputError, match=message):
        fit_to_data(config, ','.join(NAMES), no_masks=False)


def test_a_file_without_coco_annotations_raises_input_error(tmp_path: Path) -> None:
    root = coco_root(tmp_path, NAMES)
    (root / 'annotations/instances_val2017.json').write_text('[]')
    with pytest.raises(InputError, match='not an annotation file in COCO format'):
        fit_to_data(load('cascade_swin_t_3x', root), 'bolt', no_masks=False)


def test_other_classes_turn_a_data_set_into_base_seg_dataset(tmp_path: Path) -> None:
    config = load('upernet_swin_t_160k', ade_root(tmp_path, [0, 1, 3, 255]))
    fit_to_data(config, ','.join(NAMES), no_masks=False)
    assert config.model.decode_head.num_classes == config.model.auxiliary_head.num_classes == 3
    for data_set in data_sets(config):
        assert data_set.type == 'BaseSegDataset'
        assert data_set.metainfo.classes == tuple(NAMES)
        assert data_set.reduce_zero_label is True  # the default of ADE20KDataset


def test_labels_beyond_the_classes_raise_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match='contains label 4, but the 3 classes have the labels 1 to 3'):
        fit_to_data(load('upernet_swin_t_160k', ade_root(tmp_path, [0, 4])), ','.join(NAMES), no_masks=False)


def mask2former(queries: int, weights: list[float]) -> Config:
    """Return the parts of an MMDetection Mask2Former config that ``set_head_classes`` reads."""
    head = dict(num_queries=queries, num_things_classes=80, num_stuff_classes=0, loss_cls=dict(class_weight=weights))
    fusion = dict(type='MaskFormerFusionHead', num_things_classes=80, num_stuff_classes=0)
    test_cfg = dict(max_per_image=100)
    return Config(dict(model=dict(panoptic_head=head, panoptic_fusion_head=fusion, test_cfg=test_cfg)))


@pytest.mark.parametrize(('queries', 'most'), [(20, 60), (100, 100)])
def test_heads_for_things_get_the_classes_and_their_weights(queries: int, most: int) -> None:
    config = mask2former(queries, [2.0] * 80 + [0.1])
    set_head_classes(config, 3)
    head = config.model.panoptic_head
    assert head.num_things_classes == config.model.panoptic_fusion_head.num_things_classes == 3
    assert head.loss_cls.class_weight == [2.0, 2.0, 2.0, 0.1]
    assert config.model.test_cfg.max_per_image == most


@pytest.mark.parametrize('weights', [[2.0] * 79 + [3.0, 0.1], [1.0] * 5])
def test_different_class_weights_raise_input_error(weights: list[float]) -> None:
    with pytest.raises(InputError, match='set class_weight in the config'):
        set_head_classes(mask2former(100, weights), 3)


def test_unsupported_heads_raise_input_error() -> None:
    panoptic = mask2former(100, [1.0] * 134)
    panoptic.model.panoptic_head.num_stuff_classes = 53
    with pytest.raises(InputError, match='separates things from stuff'):
        set_head_classes(panoptic, 3)
    with pytest.raises(InputError, match='no head of Own in '):
        set_head_classes(Config(dict(model=dict(type='Own', head=dict(type='X')))), 3)


def test_a_single_class_of_a_segmenter_raises_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match='as in --classes background,part'):
        fit_to_data(load('upernet_swin_t_160k', ade_root(tmp_path, [0, 1])), 'part', no_masks=False)


def test_a_subset_of_known_classes_keeps_the_data_set_type(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = load('upernet_swin_t_160k', ade_root(tmp_path, [0, 150]))
    fit_to_data(config, 'wall,sky', no_masks=False)
    assert config.train_dataloader.dataset.type == 'ADE20KDataset'
    assert config.model.decode_head.num_classes == 2
    assert 'using 2 of 150 classes' in caplog.text


def test_palette_colours_are_distinct() -> None:
    assert len(set(palette(150))) == 150
    assert palette(3) == palette(150)[:3]


@pytest.mark.parametrize('name', ['mask_rcnn_swin_t_3x', 'cascade_swin_t_3x', 'htc_swin_b_6x', 'atss_swin_t_3x'])
def test_drop_masks_removes_every_mask_option(name: str) -> None:
    config = load(name)
    drop_masks(config)
    roi_head = config.model.get('roi_head', {})
    assert roi_head.get('mask_head') is None
    assert roi_head.get('mask_roi_extractor') is None
    assert not config.model.data_preprocessor.get('pad_mask')
    for data_set in data_sets(config):
        kinds = [step.type for step in data_set.pipeline]
        assert 'swin_backbone.InstaBoost' not in kinds
        assert not any(step.get('with_mask') for step in data_set.pipeline)
    for evaluator in (config.val_evaluator, config.test_evaluator):
        assert 'segm' not in evaluator.metric


def test_drop_masks_of_a_segmenter_raises_input_error() -> None:
    with pytest.raises(InputError, match='for detectors'):
        drop_masks(load('upernet_swin_t_160k'))


@pytest.mark.parametrize('name', ['mask_rcnn_swin_t_1x', 'htc_plain_swin_b_6x'])
def test_training_without_masks_on_some_classes(name: str, tmp_path: Path) -> None:
    root = tmp_path / 'shapes'
    write_shapes(root, ShapesSpec(train_count=6, val_count=2))
    for path in root.glob('annotations/*.json'):
        content = json.loads(path.read_text())
        for annotation in content['annotations']:
            annotation.pop('segmentation')
        path.write_text(json.dumps(content))
    config = load(name, root)
    small = dict(variant=None, embed_dim=32, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8), init_cfg=None)
    config.model.backbone.update(small)
    if name.startswith('htc'):
        config.model.neck[0].update(in_channels=256, num_heads=8)
        config.model.neck[1].update(in_channels=[32, 64, 128, 256])
    else:
        config.model.neck.in_channels = [32, 64, 128, 256]
    fit_to_data(config, 'circle,square,star', no_masks=True)
    smoke.shrink(config, side=64)
    loss, unreached, metrics = smoke.run(config)
    assert 0 < loss < 100
    assert not unreached
    assert 'coco/bbox_mAP' in metrics and 'coco/segm_mAP' not in metrics
