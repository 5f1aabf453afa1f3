"""The worked example of docs/own_data.md as commands: train on your own data, evaluate, predict."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from swin_backbone.datasets.shapes import ShapesSpec, write_shapes
from tests.conftest import REPOSITORY

TRAIN = ['--threads', '1', '--workers', '0', '--seed', '0', '--batch-size', '2']


def command(*arguments: object) -> str:
    line = [sys.executable, '-m', 'swin_backbone.cli', *map(str, arguments)]
    done = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of images with annotations of three classes, and its dataset.toml."""
    write_shapes(tmp_path / 'shapes', ShapesSpec(train_count=4, val_count=1))
    root = tmp_path / 'parts'
    root.mkdir()
    (tmp_path / 'shapes' / 'train2017').rename(root / 'images')
    (tmp_path / 'shapes' / 'annotations' / 'instances_train2017.json').rename(root / 'train.json')
    split = 'annotations = "train.json"\n'
    text = f'classes = ["circle", "square", "star"]\n[train]\n{split}[val]\n{split}'
    (root / 'dataset.toml').write_text(text)
    return root


@pytest.mark.slow
@pytest.mark.parametrize(
    ('config', 'iterations', 'options', 'score'),
    [
        ('upernet_swin_demo', 12, [], 'mIoU'),
        ('cascade_swin_demo', 3, [], 'segm_mAP'),
        ('cascade_swin_demo', 3, ['--no-masks'], 'bbox_mAP'),
    ],
    ids=['segmenter', 'masks', 'boxes'],
)
def test_train_evaluate_and_predict(
    config: str, iterations: int, options: list[str], score: str, data: Path, tmp_path: Path
) -> None:
    run = tmp_path / 'run'
    own = ['--dataset', data / 'dataset.toml', *options]
    command('train', config, *own, '--max-iters', iterations, *TRAIN, '--work-dir', run)
    trained = json.loads((run / 'summary.json').read_text())
    checkpoint = run / f'iter_{iterations}.pth'
    command('test', config, checkpoint, *own, '--work-dir', tmp_path / 'test')
    tested = json.loads((tmp_path / 'test' / 'summary.json').read_text())
    assert tested[score] == pytest.approx(trained[score], abs=1e-6)
    assert ('segm_mAP' in tested) == (score == 'segm_mAP')
    image = min((data / 'images').glob('*.jpg'))
    command('predict', config, checkpoint, image, '--out-dir', tmp_path / 'drawn', '--score-threshold', 0)
    found = json.loads((tmp_path / 'drawn' / f'{image.stem}.json').read_text())
    names = {one['name'] for one in found.get('objects', found.get('classes'))}
    assert names <= {'background', 'circle', 'square', 'star'}
    if config == 'upernet_swin_demo':
        scalars = next(run.glob('*/vis_data/scalars.json')).read_text().splitlines()
        losses = [entry['loss'] for entry in map(json.loads, scalars) if 'loss' in entry]
        assert losses[-1] < losses[0]
