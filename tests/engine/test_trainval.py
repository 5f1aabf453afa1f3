"""The option --trainval: training on training and validation data."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

from mmengine.registry import DATASETS, DefaultScope

from swin_backbone.datasets.shapes import ShapesSpec, write_shapes
from swin_backbone.engine.config import use_own_types
from swin_backbone.engine.trainval import use_trainval
from swin_backbone.errors import InputError
from tests.commands import call
from tests.demo_models import DETECTION, SEGMENTATION, demo_config


@pytest.fixture(scope='module')
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('data') / 'shapes'
    write_shapes(root, ShapesSpec(train_count=5, val_count=3))
    return root


@pytest.mark.parametrize('path', [DETECTION, SEGMENTATION])
@pytest.mark.parametrize('repeated', [False, True])
def test_trainval_applies_the_training_pipeline_to_both_sets(path: Path, repeated: bool, shapes: Path) -> None:
    config = demo_config(path, shapes)
    training = config.train_dataloader.dataset
    if repeated:
        config.train_dataloader.dataset = dict(type='RepeatDataset', times=2, dataset=training)
    use_trainval(config)
    use_own_types(config)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        data = DATASETS.build(config.train_dataloader.dataset)
    assert len(data) == (5 + 3) * (1 + repeated)
    assert isinstance(data.metainfo, dict) and data.metainfo['classes'] == tuple(training.metainfo.classes)
    names = {Path(data.get_data_info(i)['img_path']).parent.name for i in range(len(data))}
    assert names in ({'train2017', 'val2017'}, {'training', 'validation'})
    kinds = [
        [type(step).__name__ for step in (part.dataset if repeated else part).pipeline.transforms]
        for part in data.datasets
    ]
    assert kinds[0] == kinds[1] and 'RandomFlip' in kinds[0]
    assert data[len(data) - 1]['inputs'].shape == (3, 128, 128)
    assert config.val_dataloader is None and config.val_cfg is None and config.val_evaluator is None


def without_validation(config: Any) -> None:
    config.val_dataloader = None


def on_one_set(config: Any) -> None:
    training = config.train_dataloader.dataset
    config.val_dataloader.dataset.update({key: training[key] for key in ('data_prefix', 'ann_file') if key in training})


def of_another_type(config: Any) -> None:
    config.val_dataloader.dataset.type = 'LVISV1Dataset'


def with_stuff(config: Any) -> None:
    config.train_dataloader.dataset.data_prefix.seg = 'stuff/'
    config.train_dataloader.dataset.pipeline[1].with_seg = True


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (without_validation, 'has 1 and 0: join them with ConcatDataset'),
        (on_one_set, 'already trains on its validation data'),
        (of_another_type, 'cannot add validation data of type LVISV1Dataset'),
        (
            with_stuff,
            r'needs data_prefix\.seg of the validation data.*val_dataloader\.dataset\.data_prefix\.seg=FOLDER',
        ),
    ],
)
def test_validation_data_that_cannot_be_added_raise_input_error(change: Any, message: str, shapes: Path) -> None:
    config = demo_config(DETECTION, shapes)
    change(config)
    with pytest.raises(InputError, match=message):
        use_trainval(config)


def test_trainval_with_accumulated_gradients(shapes: Path, tmp_path: Path) -> None:
    config = demo_config(SEGMENTATION, shapes)
    config.train_dataloader.update(batch_size=2, num_workers=0)
    config.default_hooks.checkpoint.save_best = 'mIoU'
    config.dump(tmp_path / 'config.py')
    options = ['--trainval', '--one-gpu', '--max-iters', '2', '--work-dir', str(tmp_path / 'run')]
    done = call('train', tmp_path / 'config.py', *options)
    log = done.stdout + done.stderr
    assert done.returncode == 0, log[-3000:]
    for text in (
        'evaluation is disabled',
        'no best checkpoint is saved',
        '8 training images\n',
        '4 = 1 process(es) x 2 images x 2 accumulated step(s), as in the recipe',
        'batch norms see 2 images at a time, not 4',
        '2 iterations, 1 optimizer steps',
        'Result: no scores',
    ):
        assert text in log, text
    summary = json.loads((tmp_path / 'run/summary.json').read_text())
    assert summary['iterations'] == 2 and 'mIoU' not in summary
    assert (tmp_path / 'run/iter_2.pth').is_file() and not (tmp_path / 'run/predictions.png').exists()
