"""Loading of configs, changes by options, and checks for missing data."""

from pathlib import Path

import pytest

from swin_backbone.datasets.shapes import ShapesSpec, write_shapes
from swin_backbone.engine.config import (
    check_data,
    limit_iterations,
    load_config,
    missing_data,
    parse_overrides,
    set_learning_rate_scaling,
    use_own_types,
)
from swin_backbone.engine.option_check import require_training
from swin_backbone.errors import InputError
from tests.commands import call
from tests.demo_models import DETECTION, SEGMENTATION, demo_config


def test_a_file_instead_of_a_folder_is_missing_data(tmp_path: Path) -> None:
    config = demo_config(SEGMENTATION, tmp_path)
    for folder in ('images/training', 'annotations/training'):
        (tmp_path / folder).mkdir(parents=True)
    assert missing_data(config, ('train_dataloader',)) == []
    (tmp_path / 'images/training').rmdir()
    (tmp_path / 'images/training').write_text('../../photographs')  # a symbolic link that a copy turned into a file
    with pytest.raises(InputError, match=r'images/training not found; set its folder with --data-root'):
        check_data(config, ('train_dataloader',))


def silent_config(tmp_path: Path, text: str = '') -> Path:
    """Write the segmentation demo config without the keys for which mmengine has defaults."""
    config = demo_config(SEGMENTATION, tmp_path)
    for key in (
        'visualizer',
        'vis_backends',
        'default_hooks',
        'env_cfg',
        'log_processor',
        'test_dataloader',
        'test_cfg',
        'test_evaluator',
    ):
        config.pop(key, None)
    config.optim_wrapper.pop('type', None)
    config.dump(tmp_path / 'silent.py')
    (tmp_path / 'silent.py').write_text((tmp_path / 'silent.py').read_text() + '\n' + text)
    return tmp_path / 'silent.py'


def test_a_config_that_relies_on_mmengines_defaults_is_trained(tmp_path: Path) -> None:
    write_shapes(tmp_path, ShapesSpec(train_count=4, val_count=2))
    path = silent_config(tmp_path)
    options = ['--max-iters', '1', '--work-dir', str(tmp_path / 'run'), '--checkpoint-interval', '1']
    done = call('train', path, *options)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / 'run/summary.json').is_file() and (tmp_path / 'run/iter_1.pth').is_file()


def test_a_package_installed_after_a_failed_call_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, base = tmp_path / 'config.py', tmp_path / 'mmyolo/.mim/configs/_base_/model.py'
    config.write_text("_base_ = 'mmyolo::_base_/model.py'")
    with pytest.raises(InputError, match='mmyolo is not installed'):
        load_config(str(config))
    base.parent.mkdir(parents=True)
    (tmp_path / 'mmyolo/__init__.py').touch()
    (tmp_path / 'mmyolo/.mim/model-index.yml').write_text('Import: []')
    monkeypatch.syspath_prepend(tmp_path)
    for kind in ('First', 'Edited'):
        base.write_text(f"model = dict(type='{kind}')")
        assert load_config(str(config)).model.type == kind


def test_disabled_hooks_stay_disabled(tmp_path: Path) -> None:
    config = load_config(str(silent_config(tmp_path, 'default_hooks = dict(checkpoint=None, logger=None)')))
    limit_iterations(config, 4)
    assert config.default_hooks.checkpoint is None and config.default_hooks.logger is None


@pytest.mark.parametrize('key', ['train_dataloader', 'train_cfg', 'optim_wrapper'])
def test_a_config_without_training_raises_input_error(key: str, tmp_path: Path) -> None:
    config = load_config(str(silent_config(tmp_path, f'{key} = None')))
    with pytest.raises(InputError, match=f'cannot be trained: it has no {key}'):
        require_training(config)


@pytest.mark.parametrize('pair', ['train_cfg.max_iters', 'x'])
def test_an_override_without_a_value_raises_input_error(pair: str) -> None:
    with pytest.raises(InputError, match='is not KEY=VALUE'):
        parse_overrides([pair])


def test_overrides_are_parsed_like_in_mmengine() -> None:
    found = parse_overrides(['a.b=1', 'c=[1,2.5]', 'd=(1,x)', 'e=None', 'f=text'])
    assert found == {'a.b': 1, 'c': [1, 2.5], 'd': (1, 'x'), 'e': None, 'f': 'text'}


@pytest.mark.parametrize(('batch', 'accumulated', 'expected'), [(2, 2, 1.0), (4, 1, 1.0), (4, 2, 2.0), (1, 1, 0.25)])
def test_learning_rate_scaling_includes_accumulated_gradients(batch: int, accumulated: int, expected: float) -> None:
    """The recipe has 4 images per step; mmengine divides the batch size of an iteration by base_batch_size."""
    config = load_config(str(DETECTION))
    config.optim_wrapper.accumulative_counts = accumulated
    for _ in range(2):  # applying it twice, as to the config in a work dir, has no effect
        set_learning_rate_scaling(config)
    assert batch / config.auto_scale_lr.base_batch_size == expected
    assert config.auto_scale_lr.recipe_batch_size == 4


def test_persistent_workers_are_disabled_without_workers() -> None:
    config = load_config(str(DETECTION), ['train_dataloader.num_workers=0'])
    assert config.train_dataloader.persistent_workers is False
    assert config.val_dataloader.persistent_workers is True


def test_metrics_and_data_sets_are_replaced_for_training() -> None:
    config = load_config(str(DETECTION))
    use_own_types(config)
    assert config.val_evaluator.type == config.test_evaluator.type == 'swin_backbone.CocoMetric'
    assert config.train_dataloader.dataset.type == config.val_dataloader.dataset.type == 'swin_backbone.CocoDataset'


def test_a_folder_that_no_step_reads_may_be_missing(tmp_path: Path) -> None:
    config = demo_config(DETECTION, tmp_path)
    config.train_dataloader.dataset.data_prefix = dict(img='train2017/', seg='annotations/panoptic_train2017/')
    assert not any('panoptic' in path for path in missing_data(config, ('train_dataloader',)))
    config.train_dataloader.dataset.pipeline[1].with_seg = True
    assert any('panoptic' in path for path in missing_data(config, ('train_dataloader',)))
