"""Test runs: the summary, the report and submission files."""

import json
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from swin_backbone.checkpoint import published
from swin_backbone.checkpoint.published import WEIGHTS
from swin_backbone.cli.test import main
from swin_backbone.datasets.shapes import ShapesSpec, write_shapes
from swin_backbone.engine.submission import format_for_server
from swin_backbone.engine.test import compare_with_published, run_test
from swin_backbone.engine.tta import use_tta
from swin_backbone.errors import InputError
from tests.demo_models import DETECTION, SEGMENTATION, build_model, demo_config


@pytest.fixture(scope='module')
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('data') / 'shapes'
    write_shapes(root, ShapesSpec(train_count=1, val_count=3))
    return root


def runnable(path: Path, shapes: Path, folder: Path) -> Config:
    """Return a demo config with a checkpoint of random weights and without worker processes."""
    config = demo_config(path, shapes)
    torch.save(dict(state_dict=build_model(config).state_dict(), meta={}), folder / 'model.pth')
    config.load_from, config.work_dir = str(folder / 'model.pth'), str(folder / 'work')
    config.test_dataloader.update(num_workers=0, persistent_workers=False, batch_size=2)
    if 'rpn' in config.model.get('test_cfg', {}):
        config.model.test_cfg.rpn.max_per_img, config.model.test_cfg.rcnn.max_per_img = 20, 20
    return config


def summary_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / 'work' / 'summary.json').read_text())


@pytest.mark.parametrize(
    ('path', 'scores', 'files'),
    [
        (DETECTION, ('bbox_mAP', 'segm_mAP'), ('sizes.png', 'classes_mask.csv', 'precision_recall_box.png')),
        (SEGMENTATION, ('mIoU', 'mAcc', 'aAcc'), ('confusion.png', 'classes.csv', 'confusion.csv')),
    ],
    ids=['detection', 'segmentation'],
)
def test_a_multi_scale_test_writes_a_summary_and_a_report(
    path: Path,
    scores: tuple[str, ...],
    files: tuple[str, ...],
    shapes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = runnable(path, shapes, tmp_path)
    views = use_tta(config, factors=(1.0,))
    work = tmp_path / 'work'
    work.mkdir()
    (work / 'summary.json').write_text('{"iterations": 5}')  # of a training in the same work dir
    (work / 'predictions.png').write_text('drawn in training')
    run_test(config, views, str(tmp_path / 'report'))
    summary = summary_of(tmp_path)
    assert (summary['views'], summary['images']) == (2, 3) and all(0 <= summary[name] <= 1 for name in scores)
    drawn = {file.name for file in (tmp_path / 'report' / 'images').iterdir()}
    assert drawn == {'000000100000.png', '000000100001.png', '000000100002.png'}
    page = (tmp_path / 'report' / 'index.html').read_text()
    assert '2 scales and flips, merged' in page and page.count('data:image/jpeg') == 3
    assert all((tmp_path / 'report' / name).is_file() for name in files)
    assert json.loads((work / 'training_summary.json').read_text()) == {'iterations': 5}
    assert (work / 'training_predictions.png').read_text() == 'drawn in training'
    screen, (log,) = capsys.readouterr().out, work.glob('*/*.log')
    assert 'Report: ' in screen and 'Config:' not in screen and 'Config:' in log.read_text()


@pytest.mark.parametrize('tta', [False, True])
def test_testing_a_checkpoint_of_another_model_raises_input_error(tta: bool, shapes: Path, tmp_path: Path) -> None:
    config = runnable(SEGMENTATION, shapes, tmp_path)
    if tta:
        use_tta(config, factors=(1.0,))
    content = torch.load(config.load_from, weights_only=True)
    lacking = {name: value for name, value in content['state_dict'].items() if not name.startswith('auxiliary_head')}
    torch.save(dict(state_dict=lacking), config.load_from)
    sentence = '5 of the [0-9]+ parameters of the model are missing, the first is auxiliary_head.conv_seg.bias'
    with pytest.raises(InputError, match=sentence):
        run_test(config)
    content['state_dict']['decode_head.conv_seg.bias'] = torch.zeros(150)
    torch.save(content, config.load_from)
    with pytest.raises(InputError, match=r'size mismatch for decode_head\.conv_seg\.bias'):
        run_test(config)


def test_a_released_model_is_downloaded_and_compared(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = runnable(SEGMENTATION, shapes, tmp_path)
    config.dump(tmp_path / 'upernet_swin_t_160k.py')
    release = tmp_path / 'releases' / WEIGHTS['upernet_swin_t_160k'].release
    release.parent.mkdir(parents=True)
    (tmp_path / 'model.pth').rename(release)
    serve = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / 'releases'))
    monkeypatch.setattr(SimpleHTTPRequestHandler, 'log_message', lambda *_: None)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    with ThreadingHTTPServer(('127.0.0.1', 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(published, 'RELEASES', f'http://127.0.0.1:{server.server_port}')
        main([str(tmp_path / 'upernet_swin_t_160k.py'), '--released', '--work-dir', str(tmp_path / 'work')])
        server.shutdown()
    summary = summary_of(tmp_path)
    assert summary['published'] == {'mIoU': 0.4451} and summary['checkpoint'].endswith(release.name)
    message = (
        f'Measured: mIoU {summary["mIoU"]:.4f} (published: 0.4451); this test has 3 images, the published one had 2000'
    )
    assert message in capsys.readouterr().out


@pytest.mark.parametrize(
    ('metrics', 'views', 'images', 'message'),
    [
        ({'coco/bbox_mAP': 0.50312}, 1, 5000, 'Measured: box AP 0.5031 (published: 0.504)'),
        (
            {'coco/bbox_mAP': 0.5, 'coco/segm_mAP': 0.4},
            1,
            9,
            'Measured: box AP 0.5000 (published: 0.504), mask AP 0.4000 (published: 0.437); this test has 9 images, '
            'the published one had 5000',
        ),
        ({'coco/bbox_mAP': 0.5}, 8, 5000, 'No scores were published for this kind of test of the released model.'),
    ],
)
def test_scores_are_compared_with_the_published_ones(
    metrics: dict[str, float], views: int, images: int, message: str
) -> None:
    weights = WEIGHTS['cascade_swin_t_3x']
    assert compare_with_published(metrics, weights.fractions(views), images, weights.images) == message


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['model.pth', '--released'], 'checkpoint model.pth and --released cannot be combined'),
        ([], 'give a CHECKPOINT to test, or --released'),
        (['released'], 'the authors released no whole model for upernet_swin_demo; they did for mask_rcnn_swin_t_1x'),
    ],
)
def test_invalid_checkpoint_arguments_raise_input_error(arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        main([str(SEGMENTATION), *arguments])


def test_coco_submission_files_contain_the_predictions(shapes: Path, tmp_path: Path) -> None:
    config = runnable(DETECTION, shapes, tmp_path)
    submission = format_for_server(config, str(tmp_path / 'upload'))
    run_test(config, submission=submission)
    assert 'bbox_mAP' not in summary_of(tmp_path)
    for kind in ('bbox', 'segm'):
        (path,) = (tmp_path / 'upload' / kind).iterdir()
        with zipfile.ZipFile(path) as archive:
            predictions = json.loads(archive.read(archive.namelist()[0]))
        assert {one['image_id'] for one in predictions} <= {100000, 100001, 100002} and predictions
        assert all(1 <= one['category_id'] <= 6 for one in predictions)
        assert all(('segmentation' in one) == (kind == 'segm') for one in predictions)


def test_ade20k_submission_labels_start_at_one(shapes: Path, tmp_path: Path) -> None:
    config = runnable(SEGMENTATION, shapes, tmp_path)
    submission = format_for_server(config, str(tmp_path / 'upload'))
    run_test(config, submission=submission)
    (path,) = (tmp_path / 'upload').glob('*.zip')
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ['000000100000.png', '000000100001.png', '000000100002.png']
        labels = np.asarray(Image.open(archive.open('000000100000.png')))
    assert labels.shape == (128, 128) and labels.min() >= 1 and labels.max() <= 9
