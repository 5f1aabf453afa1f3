"""Pictures from anywhere: what is written for them, and what is passed over."""

import json
import os
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from pycocotools import mask as coco_mask

from swin_backbone.datasets.shapes import ShapesSpec, write_shapes
from swin_backbone.engine.predict import Predictor, find_files, output_names, predict_files
from swin_backbone.errors import InputError
from tests.toolkits import DETECTION, SEGMENTATION, build_model, demo_config

THRESHOLD = 0.15


@pytest.fixture(scope='module')
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('data') / 'shapes'
    write_shapes(root, ShapesSpec(train_count=1, val_count=2))
    folder = root / 'val2017'
    (folder / 'notes.txt').write_text('not a picture')
    (folder / 'empty.png').touch()
    (folder / 'cut.jpg').write_bytes((folder / '000000100000.jpg').read_bytes()[:300])
    cv2.imwrite(str(folder / 'float.tif'), np.zeros((60, 90), np.float32))
    cv2.imwrite(str(folder / 'dark.tif'), np.full((60, 90, 3), 4000, np.uint16))
    (folder / 'inner').mkdir()
    cv2.imwrite(str(folder / 'inner' / 'wide.png'), np.full((60, 90, 3), 128, np.uint8))
    return folder


def predictor_of(path: Path, pictures: Path, checkpoint: Path) -> Predictor:
    config = demo_config(path, pictures.parent)
    torch.save(dict(state_dict=build_model(config).state_dict(), meta={}), checkpoint)
    return Predictor(demo_config(path, pictures.parent), checkpoint, 'cpu')


def process_state() -> tuple[Any, ...]:
    """What a prediction must leave as it was: default registry scope, environment, safe globals, warning filters."""
    scope = DefaultScope.get_current_instance()
    name = None if scope is None else scope.scope_name
    return name, dict(os.environ), set(map(repr, torch.serialization.get_safe_globals())), list(warnings.filters)


def run(path: Path, pictures: Path, out: Path) -> dict[str, Any]:
    torch.save(dict(state_dict=build_model(demo_config(path, pictures.parent)).state_dict()), out / 'unused.pth')
    before = process_state()
    predictor = predictor_of(path, pictures, out / 'model.pth')
    done = {file.name: seen for file, seen in predict_files(predictor, pictures, out / 'drawn', THRESHOLD)}
    assert done == {
        '000000100000.jpg': '',
        '000000100001.jpg': '',
        'cut.jpg': 'a damaged image',
        'dark.tif': '',
        'empty.png': 'empty',
        'float.tif': 'a kind of image that is not read (float32): save it with 8 bits per channel',
        'notes.txt': 'not an image',
        'wide.png': '',
    }
    assert process_state() == before
    drawing = cv2.imread(str(out / 'drawn' / 'inner' / 'wide.png'))
    assert drawing is not None
    return json.loads((out / 'drawn' / 'inner' / 'wide.json').read_text())


def test_detections_are_drawn_and_written(pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    written = run(DETECTION, pictures, tmp_path)
    assert caplog.text.count('dark.tif: an image of 12 bits stored in 16') == 1
    assert (written['width'], written['height']) == (90, 60) and written['file'].endswith('inner/wide.png')
    objects = json.loads((tmp_path / 'drawn' / '000000100000.json').read_text())['objects']
    assert objects and [one['score'] for one in objects] == sorted((one['score'] for one in objects), reverse=True)
    for one in objects:
        assert set(one) == {'label', 'name', 'score', 'bbox', 'segmentation'} and one['score'] >= THRESHOLD
        assert one['name'] == ('circle', 'square', 'triangle', 'star', 'ring', 'cross')[one['label']]
        assert coco_mask.decode(one['segmentation']).shape == (128, 128)
        assert all(-0.1 <= value <= 128.1 for value in one['bbox'])


def test_label_maps_are_drawn_and_written(pictures: Path, tmp_path: Path) -> None:
    written = run(SEGMENTATION, pictures, tmp_path)
    labels = cv2.imread(str(tmp_path / 'drawn' / 'inner' / written['label_map']), cv2.IMREAD_UNCHANGED)
    assert labels.shape == (60, 90)
    values, counts = np.unique(labels, return_counts=True)
    assert {one['label']: one['pixels'] for one in written['classes']} == dict(zip(values, counts, strict=True))
    assert sum(one['share'] for one in written['classes']) == pytest.approx(1, abs=1e-4)


def test_the_checkpoint_must_be_of_this_model(pictures: Path, tmp_path: Path) -> None:
    config = demo_config(SEGMENTATION, pictures.parent)
    state = build_model(config).state_dict()
    state.pop('decode_head.conv_seg.bias')
    torch.save(dict(state_dict=state, meta={}), tmp_path / 'other.pth')
    with pytest.raises(InputError, match=r'other\.pth is no checkpoint of the model in this config .*conv_seg\.bias'):
        Predictor(config, tmp_path / 'other.pth', 'cpu')


def test_files_are_found_and_outputs_do_not_collide(tmp_path: Path) -> None:
    for name in ('a.jpg', 'a.png', 'b.jpg', '.hidden.jpg', 'c/a.jpg', '.cache/d.jpg'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    files = find_files(tmp_path)
    assert [str(file.relative_to(tmp_path)) for file in files] == ['a.jpg', 'a.png', 'b.jpg', 'c/a.jpg']
    assert [str(name) for name in output_names(files, tmp_path)] == ['a.jpg', 'a.png', 'b', 'c/a']
    assert [str(name) for name in output_names([tmp_path / 'b.jpg'], tmp_path / 'b.jpg')] == ['b']
    with pytest.raises(InputError, match='there is no file or folder'):
        find_files(tmp_path / 'none')
