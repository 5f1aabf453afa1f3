"""The options --one-gpu and --bf16: changes of the config, learning rates, and invalid settings."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, PARAM_SCHEDULERS, DefaultScope

from swin_backbone.datasets.shapes import ShapesSpec, write_shapes
from swin_backbone.engine import hardware_presets
from swin_backbone.errors import InputError
from tests.demo_models import DETECTION, SEGMENTATION, build_model, demo_config
from tests.model_zoo import counted_configs

RECIPES = ('cascade_swin_t_3x', 'upernet_swin_t_160k')


def same_training(one: Config, other: Config) -> bool:
    keys = ('optim_wrapper', 'param_scheduler', 'train_cfg', 'auto_scale_lr', 'train_dataloader')
    checkpoints = (one.default_hooks.checkpoint, other.default_hooks.checkpoint)
    return all(one[key] == other[key] for key in keys) and checkpoints[0] == checkpoints[1]


@pytest.mark.parametrize('name', RECIPES)
def test_one_gpu_option_equals_the_one_gpu_config(name: str) -> None:
    config = counted_configs.config(name)
    hardware_presets.use_one_gpu(config)
    assert same_training(config, counted_configs.config(f'{name}_one_gpu'))
    images = config.train_dataloader.batch_size * config.optim_wrapper.accumulative_counts
    assert images == config.auto_scale_lr.base_batch_size == 16
    hardware_presets.use_one_gpu(config)  # has no effect on a config that is adapted already
    assert same_training(config, counted_configs.config(f'{name}_one_gpu'))


@pytest.mark.parametrize(('batch', 'accumulated', 'counts', 'end'), [(4, 1, 4, 2000), (16, 1, 1, 500), (2, 2, 8, 2000)])
def test_one_gpu_accumulates_to_the_batch_of_the_recipe(batch: int, accumulated: int, counts: int, end: int) -> None:
    config = counted_configs.config('cascade_swin_t_3x')
    config.train_dataloader.batch_size = batch
    config.optim_wrapper.accumulative_counts = accumulated
    hardware_presets.use_one_gpu(config)
    assert (config.optim_wrapper.accumulative_counts, config.param_scheduler[0].end) == (counts, end)
    assert config.param_scheduler[1].milestones == [27, 33] and config.train_cfg.max_epochs == 36


def test_weight_averaging_is_scaled_to_optimizer_steps() -> None:
    config = counted_configs.config('cascade_swin_t_3x')
    config.custom_hooks = [dict(type='EMAHook'), dict(type='NumClassCheckHook')]
    hardware_presets.use_one_gpu(config)
    assert config.custom_hooks == [dict(type='EMAHook', interval=8), dict(type='NumClassCheckHook')]


def test_one_gpu_keeps_the_learning_rate_of_each_optimizer_step() -> None:
    config = counted_configs.config('upernet_swin_t_160k')
    config.param_scheduler[0].end, config.param_scheduler[1].end, config.train_cfg.max_iters = 20, 200, 200
    stretched = copy.deepcopy(config)
    hardware_presets.use_one_gpu(stretched)
    expected, found = rates(config.param_scheduler, 200), rates(stretched.param_scheduler, 1600)
    assert found[7::8][20:] == pytest.approx(expected[20:], rel=0.02, abs=1e-3)


def rates(schedulers: list[Any], iterations: int) -> list[float]:
    """Return the learning rate of each iteration as a fraction of the initial one."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    built = [PARAM_SCHEDULERS.build(dict(copy.deepcopy(options), optimizer=optimizer)) for options in schedulers]
    found = []
    for _ in range(iterations):
        found.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in built:
            scheduler.step()
    return found


def test_decay_and_warm_up_are_multiplied_like_in_the_original_code() -> None:
    found = rates(counted_configs.config('upernet_swin_t_160k').param_scheduler, 2000)
    for t in (0, 1, 100, 750, 1499, 1500, 1999):
        warm_up = min(1.0, 1e-6 + (1 - 1e-6) * t / 1500)
        assert found[t] == pytest.approx(warm_up * (1 - t / 160_000), rel=1e-3)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(launcher='pytorch'), 'is for a single process'),
        ({'train_dataloader.batch_size': 3}, 'set the batch size to one of 1, 2, 4, 8, 16'),
        ({'train_dataloader.batch_size': 32}, "cannot accumulate the recipe's batch size of 16"),
        (dict(auto_scale_lr=None), '--one-gpu needs auto_scale_lr.base_batch_size'),
    ],
)
def test_invalid_one_gpu_settings_raise_input_error(options: dict[str, Any], message: str) -> None:
    config = counted_configs.config('cascade_swin_t_3x')
    config.merge_from_dict(options)
    with pytest.raises(InputError, match=message):
        hardware_presets.use_one_gpu(config)


@pytest.mark.parametrize('name', RECIPES)
def test_bf16_option_equals_the_bf16_config(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware_presets, 'has_accelerator', bool)
    config = counted_configs.config(name)
    with pytest.raises(InputError, match='--bf16 needs a GPU'):
        hardware_presets.use_bfloat16(config)
    monkeypatch.setattr(hardware_presets, 'has_accelerator', lambda: True)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation: not including_emulation)
    hardware_presets.use_bfloat16(config)
    assert same_training(config, counted_configs.config(f'{name}_bf16'))


def test_unsupported_gpus_and_wrappers_raise_input_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware_presets, 'has_accelerator', lambda: True)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation: including_emulation)
    config = counted_configs.config('cascade_swin_t_3x')
    with pytest.raises(InputError, match='does not support bfloat16'):
        hardware_presets.use_bfloat16(config)
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation: True)
    config.optim_wrapper.type = 'ApexOptimWrapper'
    with pytest.raises(InputError, match='cannot change'):
        hardware_presets.use_bfloat16(config)


@pytest.mark.parametrize('path', [DETECTION, SEGMENTATION])
def test_demo_losses_are_finite_in_bfloat16(path: Path, tmp_path: Path) -> None:
    write_shapes(tmp_path, ShapesSpec(train_count=2, val_count=1))
    config = demo_config(path, tmp_path)
    model = build_model(config).train()
    with DefaultScope.overwrite_default_scope(config.default_scope):
        data = DATASETS.build(config.train_dataloader.dataset)
    batch = model.data_preprocessor(pseudo_collate([data[0], data[1]]), True)
    with torch.autocast('cpu', torch.bfloat16):
        loss, _ = model.parse_losses(model(**batch, mode='loss'))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())
