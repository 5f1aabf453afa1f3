"""Configs of Swin V2-L and V2-G with HTC++ and UPerNet: windows, schedules, and tests with larger windows."""

from pathlib import Path

import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope

from swin_backbone.model_zoo import config_trials
from tests.model_zoo import counted_configs
from tests.model_zoo.test_configs import PYRAMID, SWIN_SIZES, shapes  # noqa: F401  a fixture

WINDOWS = {
    'htc_swinv2_l': (32, (1536, 1100)),
    'htc_swinv2_l_test48': (48, (1536, 1100)),
    'htc_swinv2_g': (32, (1536, 1100)),
    'htc_swinv2_g_test48': (48, (1536, 1100)),
    'upernet_swinv2_l_640': (40, (2560, 640)),
    'upernet_swinv2_g_640': (40, (2560, 640)),
    'upernet_swinv2_g_896': (56, (3584, 896)),
}
SCHEDULES = {
    'htc_swinv2_l': (36, 0.0004, 0.05, 64),
    'htc_swinv2_g': (45_000, 0.0006, 0.05, 96),
    'upernet_swinv2_l_640': (40_000, 0.00006, 0.05, 64),
    'upernet_swinv2_g_640': (80_000, 0.00004, 0.05, 32),
}


def test_all_configs_are_tested_here() -> None:
    assert sorted(WINDOWS) == sorted(
        name for name in counted_configs.PATHS if name.startswith(counted_configs.V2_SYSTEMS)
    )


@pytest.mark.parametrize('name', WINDOWS)
def test_windows_and_image_sizes_are_those_of_the_paper(name: str) -> None:
    config = counted_configs.config(name)
    backbone, (window, scale) = config.model.backbone, WINDOWS[name]
    assert (backbone.window_size, backbone.version) == (window, 2)
    assert tuple(backbone.pretrained_window_sizes) == (12, 12, 12, 6)
    assert backbone.with_cp is True and tuple(backbone.sequential) == (0, 1)
    steps = config.test_dataloader.dataset.pipeline
    assert [tuple(step.scale) for step in steps if step.type == 'Resize'] == [scale]


@pytest.mark.parametrize('name', SCHEDULES)
def test_schedules_and_optimizers_are_those_of_the_paper(name: str) -> None:
    config = counted_configs.config(name)
    length, rate, decay, batch = SCHEDULES[name]
    assert config.train_cfg.get('max_epochs', config.train_cfg.get('max_iters')) == length
    assert config.param_scheduler[1].end == length
    assert (config.optim_wrapper.optimizer.lr, config.optim_wrapper.optimizer.weight_decay) == (rate, decay)
    assert config.auto_scale_lr.base_batch_size == batch


@pytest.mark.parametrize('name', ['htc_swinv2_l', 'upernet_swinv2_l_640'])
def test_norms_and_additional_parameters_of_v2_have_no_weight_decay(name: str) -> None:
    config = counted_configs.config(name)
    config.model.backbone.update(SWIN_SIZES, init_cfg=None)
    scope = 'mmdet' if name.startswith('htc') else 'mmseg'
    with DefaultScope.overwrite_default_scope(scope):
        backbone = MODELS.build(config.model.backbone)
        model = torch.nn.ModuleDict(dict(backbone=backbone))
        options = {key: value for key, value in config.optim_wrapper.items() if key != 'loss_scale'}
        wrapper = build_optim_wrapper(model, dict(options, type='OptimWrapper'))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for group in wrapper.optimizer.param_groups:
        (parameter,) = group['params']
        undecayed = any(word in names[id(parameter)] for word in ('norm', 'cpb_mlp', 'logit_scale'))
        assert (group['weight_decay'] == 0.0) == undecayed, names[id(parameter)]
        if name == 'htc_swinv2_l':
            assert group['lr'] == pytest.approx(0.00004), names[id(parameter)]


@pytest.mark.parametrize('name', ['htc_swinv2_g_test48', 'upernet_swinv2_g_896'])
def test_one_training_step_and_one_evaluated_image(name: str, shapes: Path) -> None:  # noqa: F811
    """With a narrow backbone and small windows."""
    config = counted_configs.config(name)
    config.model.backbone.update(SWIN_SIZES, window_size=8)
    if name.startswith('htc'):
        config.model.neck[0].update(in_channels=256, num_heads=8)
        config.model.neck[1].update(in_channels=PYRAMID)
    else:
        config.model.decode_head.in_channels = PYRAMID
        config.model.auxiliary_head.in_channels = PYRAMID[2]
    config_trials.prepare(config, str(shapes), side=64)
    loss, unreached, metrics = config_trials.run(config)
    assert 0 < loss < 1000 and not unreached and metrics
