"""Submission files for test servers: images, file names and content."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swin_backbone.datasets.shapes import ShapesSpec, write_shapes
from swin_backbone.engine.submission import format_for_server, without_annotations
from swin_backbone.engine.tta import use_tta
from swin_backbone.errors import InputError
from tests.demo_models import DETECTION, SEGMENTATION, demo_config


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    root = tmp_path / 'shapes'
    write_shapes(root, ShapesSpec(train_count=1, val_count=2))
    return root


def test_format_for_server_falls_back_to_the_config_split(shapes: Path, tmp_path: Path) -> None:
    config = demo_config(DETECTION, shapes)
    submission = format_for_server(config, str(tmp_path / 'out'))
    assert (submission.split, submission.public) == ('val2017', False)
    assert config.test_evaluator.format_only and config.test_dataloader.dataset.data_prefix.img == 'val2017/'


def test_coco_test_dev_is_used_if_present(shapes: Path, tmp_path: Path) -> None:
    (shapes / 'test2017').mkdir()
    (shapes / 'annotations/image_info_test-dev2017.json').write_text('{}')
    config = demo_config(DETECTION, shapes)
    submission = format_for_server(config, str(tmp_path / 'out'))
    assert (submission.split, submission.public) == ('test-dev2017', True)
    data_set = config.test_dataloader.dataset
    assert data_set.ann_file == 'annotations/image_info_test-dev2017.json' and data_set.data_prefix.img == 'test2017/'
    assert config.test_evaluator.ann_file.endswith('image_info_test-dev2017.json')
    assert [step['type'] for step in data_set.pipeline] == ['LoadImageFromFile', 'Resize', 'PackDetInputs']
    use_tta(config)

    raw = tmp_path / 'out' / 'raw'
    raw.mkdir(parents=True)
    for kind in ('bbox', 'segm'):
        one = dict(
            image_id=1, category_id=2, score=0.5, bbox=[0, 0, 1, 1], **({'segmentation': {}} if kind == 'segm' else {})
        )
        (raw / f'results.{kind}.json').write_text(json.dumps([one]))
    boxes, masks = submission.finish()
    assert boxes.name == masks.name == 'detections_test-dev2017_cascade_swin_demo_results.zip'
    with zipfile.ZipFile(boxes) as archive:
        assert archive.namelist() == ['detections_test-dev2017_cascade_swin_demo_results.json']
        assert json.loads(archive.read(archive.namelist()[0]))[0]['bbox'] == [0, 0, 1, 1]
    with zipfile.ZipFile(masks) as archive:
        assert set(json.loads(archive.read(archive.namelist()[0]))[0]) == {
            'image_id',
            'category_id',
            'score',
            'segmentation',
        }
    assert not raw.exists()


def test_ade20k_test_images_are_used_if_present(shapes: Path, tmp_path: Path) -> None:
    (shapes / 'images' / 'testing').mkdir()
    config = demo_config(SEGMENTATION, shapes)
    submission = format_for_server(config, str(tmp_path / 'out'))
    assert (submission.split, submission.public) == ('testing', True)
    assert config.test_dataloader.dataset.data_prefix == dict(img_path='images/testing')
    labels = Path(config.test_evaluator.output_dir)
    labels.mkdir(parents=True)
    Image.fromarray(np.array([[1, 150]], np.uint8)).save(labels / 'ADE_test_00000001.png')
    (packed,) = submission.finish()
    assert packed.name == 'ade20k_testing_upernet_swin_demo.zip'
    with zipfile.ZipFile(packed) as archive:
        assert archive.namelist() == ['ADE_test_00000001.png']


def test_annotation_steps_are_removed_from_views() -> None:
    views = dict(type='TestTimeAug', transforms=[[dict(type='Resize')], [dict(type='LoadAnnotations')]])
    cleaned = without_annotations([dict(type='LoadImageFromFile'), views, dict(type='mmseg.LoadAnnotations')])
    assert [step['type'] for step in cleaned] == ['LoadImageFromFile', 'TestTimeAug']
    assert cleaned[1]['transforms'] == [[dict(type='Resize')]]


def test_metrics_without_a_server_raise_input_error(shapes: Path, tmp_path: Path) -> None:
    config = demo_config(DETECTION, shapes)
    config.test_evaluator = dict(type='VOCMetric')
    with pytest.raises(InputError, match='not the metric VOCMetric'):
        format_for_server(config, str(tmp_path))
