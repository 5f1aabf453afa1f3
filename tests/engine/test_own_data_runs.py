"""The examples of docs/own_data.md: training on custom data from a checkpoint, evaluation and prediction."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

import torch
from mmengine.registry import MODELS, DefaultScope

from swin_backbone.cli import predict, test, train
from swin_backbone.engine.config import load_config
from tests.own_data import write_maps, write_own_data, write_toml

BRIEF = ['--threads', '1', '--workers', '0', '--seed', '0', '--batch-size', '2', '--lr', '0.001']


@pytest.fixture(autouse=True)
def unchanged_environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory, photographs: Path | None) -> Path:
    """Write eight photographs or generated images with COCO annotations and label maps."""
    root = tmp_path_factory.mktemp('own') / 'parts'
    classes = write_own_data(root, photographs and photographs / 'coco100')
    write_maps(root, classes)
    write_toml(root, classes, 'train.json')
    write_toml(root, ['background', *classes], 'maps')
    return root


def whole_model(config: str, path: Path) -> Path:
    """Write a checkpoint of the model of a config, whose classes differ from those of the data."""
    loaded = load_config(config)
    loaded.model.backbone.pop('init_cfg', None)
    with DefaultScope.overwrite_default_scope(loaded.default_scope):
        torch.save(dict(state_dict=MODELS.build(loaded.model).state_dict()), path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ('config', 'file', 'iterations', 'options', 'score'),
    [
        ('upernet_swin_demo', 'maps.toml', 20, [], 'mIoU'),
        ('upernet_swin_demo', 'train.toml', 4, [], 'mIoU'),
        ('cascade_swin_demo', 'train.toml', 10, [], 'segm_mAP'),
        ('cascade_swin_demo', 'train.toml', 2, ['--no-masks'], 'bbox_mAP'),
    ],
    ids=['label maps', 'polygons', 'masks', 'boxes'],
)
def test_custom_data_can_be_trained_evaluated_and_predicted(
    config: str, file: str, iterations: int, options: list[str], score: str, data: Path, tmp_path: Path
) -> None:
    run, whole = tmp_path / 'run', whole_model(config, tmp_path / 'whole.pth')
    own = ['--dataset', str(data / file), *options]
    more = ['--load-from', str(whole), '--max-iters', str(iterations), '--work-dir', str(run)]
    train.main([config, *own, *BRIEF, *more, '--cfg-options', 'default_hooks.logger.interval=2'])
    trained = json.loads((run / 'summary.json').read_text())
    checkpoint = str(run / f'iter_{iterations}.pth')
    test.main([config, checkpoint, *own, '--work-dir', str(tmp_path / 'test')])
    tested = json.loads((tmp_path / 'test' / 'summary.json').read_text())
    assert tested[score] == pytest.approx(trained[score], abs=1e-6)
    assert ('segm_mAP' in tested) == (score == 'segm_mAP')
    image = min((data / 'images').glob('*.jpg'))
    predict.main([config, checkpoint, str(image), '--out-dir', str(tmp_path / 'drawn'), '--score-threshold', '0'])
    found = json.loads((tmp_path / 'drawn' / f'{image.stem}.json').read_text())
    names = {one['name'] for one in found.get('objects', found.get('classes'))}
    assert names <= {'background', *json.loads((data / file).read_text().splitlines()[0].removeprefix('classes = '))}
    if iterations > 4:
        losses = [float(loss) for loss in re.findall(r' loss: ([\d.]+)', next(run.glob('*/*.log')).read_text())]
        assert losses[-1] < losses[0]
