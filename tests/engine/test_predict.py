"""Predictor: image types, equality with the toolkits, and output files."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from swin_backbone import Predictor
from swin_backbone.datasets.shapes import ShapesSpec, write_shapes
from swin_backbone.engine.predict import as_rgb
from swin_backbone.engine.predict_files import CocoFile, predict_files
from swin_backbone.engine.predict_sources import check_outputs, find_files, is_camera
from swin_backbone.engine.predict_video import predict_video
from swin_backbone.engine.prediction import IGNORED, Prediction
from swin_backbone.errors import InputError
from tests.demo_models import DETECTION, SEGMENTATION, build_model, demo_config
from tests.demo_models import predict as predict_with_toolkit

THRESHOLD = 0.15
NAMES = ['circle', 'square', 'triangle', 'star', 'ring', 'cross']


@pytest.fixture(scope='module')
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('data') / 'shapes'
    write_shapes(root, ShapesSpec(train_count=1, val_count=2))
    folder = root / 'val2017'
    (folder / 'notes.txt').write_text('not an image')
    (folder / 'empty.png').touch()
    (folder / 'cut.jpg').write_bytes((folder / '000000100000.jpg').read_bytes()[:300])
    cv2.imwrite(str(folder / 'float.tif'), np.zeros((60, 90), np.float32))
    cv2.imwrite(str(folder / 'dark.tif'), np.full((60, 90, 3), 4000, np.uint16))
    (folder / 'inner').mkdir()
    cv2.imwrite(str(folder / 'inner' / 'wide.png'), np.full((60, 90, 3), 128, np.uint8))
    return folder


@pytest.fixture(scope='module')
def detector(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return predictor_of(DETECTION, photos, tmp_path_factory.mktemp('detector') / 'model.pth')


@pytest.fixture(scope='module')
def segmenter(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return predictor_of(SEGMENTATION, photos, tmp_path_factory.mktemp('segmenter') / 'model.pth')


def predictor_of(path: Path, photos: Path, checkpoint: Path, **options: Any) -> Predictor:
    config = demo_config(path, photos.parent)
    torch.save(dict(state_dict=build_model(config).state_dict(), meta={}), checkpoint)
    return Predictor(demo_config(path, photos.parent), checkpoint, 'cpu', **options)


def process_state() -> tuple[Any, ...]:
    """Return the registry scope, environment, safe globals and warning filters, which a prediction must not change."""
    scope = DefaultScope.get_current_instance()
    name = None if scope is None else scope.scope_name
    return name, dict(os.environ), set(map(repr, torch.serialization.get_safe_globals())), list(warnings.filters)


def same(one: Prediction, other: Prediction) -> bool:
    return one.keys() == other.keys() and all(
        np.allclose(one[key], other[key], atol=1e-4) if isinstance(one[key], np.ndarray) else one[key] == other[key]
        for key in one
    )


def run(path: Path, photos: Path, out: Path) -> dict[str, Any]:
    build_model(demo_config(path, photos.parent))  # building the first model changes the process state
    before = process_state()
    predictor = predictor_of(path, photos, out / 'model.pth')
    files = find_files([str(photos)])
    done = {file.name: seen for file, seen in predict_files(predictor, files, out / 'drawn', THRESHOLD)}
    assert done == {
        '000000100000.jpg': '',
        '000000100001.jpg': '',
        'cut.jpg': 'a damaged image',
        'dark.tif': '',
        'empty.png': 'empty',
        'float.tif': 'an unsupported image type (float32): save it with 8 bits per channel',
        'notes.txt': 'not an image',
        'wide.png': '',
    }
    assert process_state() == before
    drawing = cv2.imread(str(out / 'drawn' / 'inner' / 'wide.png'))
    assert drawing is not None
    return json.loads((out / 'drawn' / 'inner' / 'wide.json').read_text())


def test_detections_are_written_as_drawings_and_json(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    written = run(DETECTION, photos, tmp_path)
    assert caplog.text.count('dark.tif: an image of 12 bits stored in 16') == 1
    assert (written['width'], written['height']) == (90, 60) and written['file'].endswith('inner/wide.png')
    objects = json.loads((tmp_path / 'drawn' / '000000100000.json').read_text())['objects']
    assert objects and [one['score'] for one in objects] == sorted((one['score'] for one in objects), reverse=True)
    for one in objects:
        assert set(one) == {'label', 'name', 'score', 'bbox', 'segmentation'} and one['score'] >= THRESHOLD
        assert one['name'] == NAMES[one['label']]
        assert coco_mask.decode(one['segmentation']).shape == (128, 128)
        assert all(-0.1 <= value <= 128.1 for value in one['bbox'])


def test_label_maps_are_written_as_drawings_and_json(photos: Path, tmp_path: Path) -> None:
    written = run(SEGMENTATION, photos, tmp_path)
    image = Image.open(tmp_path / 'drawn' / 'inner' / written['label_map'])
    labels = np.asarray(image)
    assert labels.shape == (60, 90) and image.mode == 'P'
    values, counts = np.unique(labels, return_counts=True)
    assert {one['label']: one['pixels'] for one in written['classes']} == dict(zip(values, counts, strict=True))
    assert sum(one['share'] for one in written['classes']) == pytest.approx(1, abs=1e-4)
    assert np.asarray(image.convert('RGB')).any()  # the palette has the class colours


def test_a_checkpoint_of_another_model_raises_input_error(photos: Path, tmp_path: Path) -> None:
    config = demo_config(SEGMENTATION, photos.parent)
    state = build_model(config).state_dict()
    state.pop('decode_head.conv_seg.bias')
    torch.save(dict(state_dict=state, meta={}), tmp_path / 'other.pth')
    with pytest.raises(
        InputError, match=r'other\.pth is not a checkpoint of the model in this config .*conv_seg\.bias'
    ):
        Predictor(config, tmp_path / 'other.pth', 'cpu')


@pytest.mark.parametrize('path', [DETECTION, SEGMENTATION], ids=['detector', 'segmenter'])
def test_predictions_equal_the_toolkit(path: Path, photos: Path, request: pytest.FixtureRequest) -> None:
    predictor = request.getfixturevalue('detector' if path == DETECTION else 'segmenter')
    files = sorted(photos.glob('0*.jpg'))
    ours = predictor(files, batch_size=2)
    expected = predict_with_toolkit(demo_config(path, photos.parent))
    for found, sample in zip(ours, expected, strict=True):
        if path == SEGMENTATION:
            assert (found['label_map'] == sample.pred_sem_seg.data[0].numpy()).all()
            continue
        order = np.argsort(-sample.pred_instances.scores.numpy(), kind='stable')
        assert np.allclose(found['boxes'], sample.pred_instances.bboxes.numpy()[order], atol=1e-4)
        assert found['masks'].shape == (len(found['boxes']), 128, 128) and found['masks'].dtype == bool
        assert found['names'] == NAMES


def test_all_image_types_give_the_same_prediction(detector: Predictor, photos: Path) -> None:
    path = photos / '000000100000.jpg'
    array = cv2.imread(str(path))[..., ::-1]
    wanted = detector(path)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    images = [str(path), Image.fromarray(array), tensor, tensor / 255]
    for found in detector(images, batch_size=3):
        assert same(found, wanted)
    assert same(detector(array[..., ::-1], bgr=True), wanted)
    assert (as_rgb(array[..., 0]) == array[..., :1]).all()


@pytest.mark.parametrize(
    ('image', 'message'),
    [
        (np.zeros((4, 5, 3)), r'cannot predict float64 \(4, 5, 3\): give a path'),
        (np.zeros((4, 5, 4), np.uint8), r'cannot predict uint8 \(4, 5, 4\)'),
        (torch.zeros(2, 3, 4, 5), r'\(2, 3, 4, 5\)'),
        (7, 'cannot predict int'),
        ('nowhere.jpg', 'image nowhere.jpg does not exist'),
        (__file__, 'cannot be read as an image'),
    ],
)
def test_invalid_images_raise_input_error(detector: Predictor, image: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        detector(image)


def test_batching_does_not_change_predictions(segmenter: Predictor, photos: Path) -> None:
    paths = [photos / '000000100000.jpg', photos / 'inner' / 'wide.png', photos / '000000100001.jpg']
    for found, path in zip(segmenter(paths, batch_size=3), paths, strict=True):
        assert same(found, segmenter(path))


def test_predictions_are_selected_by_score_and_class(detector: Predictor, segmenter: Predictor, photos: Path) -> None:
    path = photos / '000000100000.jpg'
    found = detector(path)
    name = found['names'][found['labels'][0]]
    part = found.select(float(found['scores'][0]), [name])
    assert len(part['boxes']) == len(part['masks']) == len(part['labels']) >= 1
    assert found.draw(0.9).shape == (128, 128, 3) and (found.draw(1.0) == found.image).all()
    label_map = segmenter(path)
    kept = label_map['names'][label_map['label_map'][0, 0]]
    assert set(np.unique(label_map.select(classes=[kept])['label_map'])) <= {label_map['label_map'][0, 0], IGNORED}
    with pytest.raises(InputError, match="no class 'circel': did you mean 'circle'"):
        found.select(classes=['circel'])


def test_to_supervision_keeps_boxes_masks_and_names(detector: Predictor, segmenter: Predictor, photos: Path) -> None:
    pytest.importorskip('supervision', reason='supervision is not installed')
    path = photos / '000000100000.jpg'
    found = detector(path)
    converted = found.to_supervision()
    assert (converted.xyxy == found['boxes']).all() and (converted.mask == found['masks']).all()
    assert converted.data['class_name'][0] == found['names'][found['labels'][0]]
    with pytest.raises(InputError, match='this prediction is a label map'):
        segmenter(path).to_supervision()


@pytest.mark.parametrize('path', [DETECTION, SEGMENTATION], ids=['detector', 'segmenter'])
def test_tta_with_a_single_view_equals_the_plain_prediction(
    path: Path, photos: Path, request: pytest.FixtureRequest
) -> None:
    plain = request.getfixturevalue('detector' if path == DETECTION else 'segmenter')
    config = demo_config(path, photos.parent)
    config.tta_factors, config.tta_flip = [1.0], False
    checkpoint = photos.parent / f'{path.stem}.pth'
    torch.save(dict(state_dict=plain.model.state_dict(), meta={}), checkpoint)
    views = Predictor(config, checkpoint, 'cpu', tta=True)
    assert getattr(views.model, 'merge', 'proposals') == 'proposals'
    image = photos / 'inner' / 'wide.png'
    assert same(views(image), plain(image))


def test_bfloat16_predictions_are_close_to_float32(photos: Path, tmp_path: Path, segmenter: Predictor) -> None:
    torch.save(dict(state_dict=segmenter.model.state_dict(), meta={}), tmp_path / 'model.pth')
    half = Predictor(demo_config(SEGMENTATION, photos.parent, 32), tmp_path / 'model.pth', 'cpu', bf16=True)
    full = Predictor(demo_config(SEGMENTATION, photos.parent, 32), tmp_path / 'model.pth', 'cpu')
    image = photos / '000000100000.jpg'
    assert (half(image)['label_map'] == full(image)['label_map']).mean() > 0.8


def test_the_model_is_adapted_to_the_classes_of_its_checkpoint(photos: Path, tmp_path: Path) -> None:
    """A checkpoint with other classes and without masks can be used without options."""
    config = demo_config(DETECTION, photos.parent)
    config.model.roi_head.mask_head = config.model.roi_head.mask_roi_extractor = None
    for head in config.model.roi_head.bbox_head:
        head.num_classes = 2
    meta = dict(dataset_meta=dict(classes=('bolt', 'nut')))
    torch.save(dict(state_dict=build_model(config).state_dict(), meta=meta), tmp_path / 'own.pth')
    found = Predictor(demo_config(DETECTION, photos.parent), tmp_path / 'own.pth', 'cpu')(photos / 'dark.tif')
    assert found['names'] == ['bolt', 'nut'] and found['masks'] is None and set(found['labels']) <= {0, 1}
    with pytest.raises(InputError, match='was trained on bolt, nut, not on bolt, screw'):
        Predictor(demo_config(DETECTION, photos.parent), tmp_path / 'own.pth', 'cpu', ['bolt', 'screw'])


def test_coco_json_contains_the_selected_objects(detector: Predictor, photos: Path, tmp_path: Path) -> None:
    coco, path = CocoFile(), photos / '000000100000.jpg'
    list(predict_files(detector, {path: Path('a')}, tmp_path, THRESHOLD, ['circle', 'star'], coco))
    coco.write(tmp_path / 'coco.json', NAMES)
    read = COCO(str(tmp_path / 'coco.json'))
    assert {one['category_id'] for one in read.dataset['annotations']} <= {1, 4}
    for one in read.dataset['annotations']:
        assert one['score'] >= THRESHOLD and one['area'] == read.annToMask(one).sum()


def write_video(path: Path, frames: int = 3) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 10, (96, 64))
    for number in range(frames):
        writer.write(np.full((64, 96, 3), 40 * number, np.uint8))
    writer.release()
    return path


def test_videos_are_predicted_frame_by_frame(segmenter: Predictor, tmp_path: Path) -> None:
    clip = write_video(tmp_path / 'clip.mp4')
    assert predict_video(segmenter, clip, tmp_path / 'out' / 'clip') == 3
    lines = [json.loads(line) for line in (tmp_path / 'out' / 'clip.jsonl').read_text().splitlines()]
    assert [(line['frame'], line['seconds']) for line in lines] == [(0, 0.0), (1, 0.1), (2, 0.2)]
    video = cv2.VideoCapture(str(tmp_path / 'out' / 'clip.mp4'))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 3 and video.read()[1].shape == (64, 96, 3)
    (tmp_path / 'none.mp4').write_bytes(b'nothing')
    with pytest.raises(InputError, match=r'none\.mp4 cannot be opened'):
        predict_video(segmenter, tmp_path / 'none.mp4', tmp_path / 'out' / 'none')
    assert not list((tmp_path / 'out').glob('*none*'))


def test_find_files_returns_distinct_output_paths(tmp_path: Path) -> None:
    for name in ('a.jpg', 'a.png', 'b.jpg', '.hidden.jpg', 'c/a.jpg', '.cache/d.jpg'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    root = str(tmp_path)
    places = {'a.jpg': 'a.jpg', 'a.png': 'a.png', 'b.jpg': 'b', 'c/a.jpg': 'c/a'}
    assert find_files([root]) == {tmp_path / name: Path(place) for name, place in places.items()}
    assert find_files([f'{root}/b.jpg']) == {tmp_path / 'b.jpg': Path('b')}
    assert find_files([f'{root}/**/*.jpg', f'{root}/b.jpg']) == {
        tmp_path / name: Path(name).with_suffix('') for name in ('a.jpg', 'b.jpg', 'c/a.jpg')
    }
    assert is_camera('0') and not is_camera('a0')
    with pytest.raises(InputError, match=r'file or folder .* does not exist'):
        find_files([f'{root}/none'])
    with pytest.raises(InputError, match=r'would overwrite .*a\.png'):
        check_outputs(find_files([f'{root}/a.png']), tmp_path)


def test_importing_the_package_loads_no_toolkit() -> None:
    code = 'import sys, swin_backbone; print({"mmengine", "cv2", "torch"} & set(sys.modules), "Predictor" in '
    code += 'swin_backbone.__all__)'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout == 'set() True\n'
