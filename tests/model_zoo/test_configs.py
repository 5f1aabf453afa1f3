"""Checks of all configs; one of each kind is trained for one step and evaluated on one image."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

from swin_backbone.checkpoint.published import WEIGHTS
from swin_backbone.datasets.shapes import ShapesSpec, write_shapes
from swin_backbone.engine.config import dicts_in, load_config
from swin_backbone.model_zoo import config_trials
from swin_backbone.model_zoo.page import read_notes
from swin_backbone.variants import MIXERS
from tests.conftest import REPOSITORY
from tests.model_zoo import counted_configs

DETECTION = [
    'cascade_swin_t_1x',
    'cascade_swin_t_3x',
    'cascade_swin_s_3x',
    'cascade_swin_b_3x',
    'cascade_r50_3x',
    'cascade_x101_32x4d_3x',
    'cascade_x101_64x4d_3x',
    'cascade_r50_sgd_3x',
    'cascade_x101_32x4d_sgd_3x',
    'cascade_x101_64x4d_sgd_3x',
    'cascade_swin_t_3x_one_gpu',
    'cascade_swin_t_3x_bf16',
    'cascade_deit_s_3x',
    'mask_rcnn_swin_t_1x',
    'mask_rcnn_swin_t_3x',
    'mask_rcnn_swin_s_3x',
    'mask_rcnn_mixer_t_3x',
    'atss_swin_t_3x',
    'atss_r50_3x',
    'reppoints_swin_t_3x',
    'reppoints_v2_swin_t_3x',
    'reppoints_v2_r50_3x',
    'mask_reppoints_v2_swin_t_3x',
    'sparse_rcnn_swin_t_3x',
    'sparse_rcnn_r50_3x',
    'htc_swin_b_6x',
    'htc_swin_l_6x',
    'htc_x101_64x4d_6x',
    'cascade_swinv2_t_3x',
    'cascade_swinv2_s_3x',
    'cascade_swinv2_b_3x',
]
PEERS = [
    'danet_r101_160k',
    'deeplabv3plus_r101_160k',
    'deeplabv3plus_resnest101_160k',
    'deeplabv3plus_resnest200_160k',
    'dnl_r101_160k',
    'ocrnet_r101_160k',
    'ocrnet_hr48_160k',
    'setr_vit_l_160k',
]
"""Other methods in the paper's Table 3, with MMSegmentation's recipe."""

SEGMENTATION = [
    'upernet_swin_t_160k',
    'upernet_swin_s_160k',
    'upernet_swin_b_160k',
    'upernet_swin_b_640_160k',
    'upernet_swin_l_640_160k',
    'upernet_deit_s_160k',
    'upernet_r101_160k',
    'upernet_swinv2_t_160k',
    'upernet_swinv2_s_160k',
    'upernet_swinv2_b_160k',
    'upernet_swin_t_160k_one_gpu',
    'upernet_swin_t_160k_bf16',
    'upernet_mixer_b_160k',
    *PEERS,
]
ALL = sorted(counted_configs.PATHS)
SWIN = [name for name in ALL if 'swin' in name]
FOREIGN = ('torchvision://', 'open-mmlab://', 'https://', 'pretrain/')

# Drop path rates of the released configs; configs without a release use 0.2, or 0.3 for UPerNet.
DROP_PATH = {'cascade_swin_t_1x': 0.0, 'mask_rcnn_swin_t_1x': 0.1, 'cascade_swin_b_3x': 0.3, 'cascade_swinv2_b_3x': 0.3}


def test_all_documented_configs_exist() -> None:
    assert set(DETECTION) | set(SEGMENTATION) <= set(ALL)


@pytest.mark.parametrize('name', ALL)
def test_docstrings_have_all_notes(name: str) -> None:
    notes = read_notes(counted_configs.PATHS[name])
    assert notes.title
    assert {'Source', 'Original', 'Expected', 'Size'} <= notes.lines.keys()
    # An expected score is a published one, or the note states that there is none.
    assert 'publish' in notes.lines['Expected'] or 'no score' in notes.lines['Expected']


@pytest.mark.parametrize('name', ALL)
def test_configs_are_short(name: str) -> None:
    assert 8 <= len(counted_configs.PATHS[name].read_text().splitlines()) <= 15


@pytest.mark.parametrize('name', [name for name in ALL if 'swinv2_g' not in name])
def test_initial_weights_fit_the_backbone(name: str) -> None:
    backbone = counted_configs.config(name).model.backbone
    source = backbone.init_cfg.checkpoint
    if 'swin' not in name and 'mixer' not in name:
        assert source.startswith(FOREIGN)
        return
    weights = WEIGHTS[source]
    assert backbone.type == f'swin_backbone.{weights.network}'
    assert (weights.variant, weights.version) == (backbone.variant, backbone.get('version', 1))
    if weights.version == 2:
        assert tuple(backbone.pretrained_window_sizes) == weights.pretrained_window_sizes
    else:
        default = MIXERS[weights.variant].window if 'mixer' in name else 7
        assert weights.window == backbone.get('window_size', default)


@pytest.mark.parametrize('name', [name for name in SWIN if 'swinv2_g' not in name])
def test_drop_path_rate_is_that_of_the_release(name: str) -> None:
    usual = 0.3 if name.startswith(('upernet', 'mask2former', 'rtmdet')) else 0.2
    assert counted_configs.config(name).model.backbone.drop_path_rate == DROP_PATH.get(name, usual)


@pytest.mark.parametrize('name', PEERS)
def test_other_methods_use_the_recipe_of_mmsegmentation(name: str) -> None:
    config = counted_configs.config(name)
    assert config.optim_wrapper.optimizer.type == 'SGD' and config.train_cfg.max_iters == 160_000
    assert (config.train_dataloader.batch_size, config.auto_scale_lr.base_batch_size) == (2, 16)
    heads = [*as_list(config.model.decode_head), *as_list(config.model.get('auxiliary_head') or [])]
    assert {head.num_classes for head in heads} == {150}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize('name', [name for name in ALL if '_sgd_' in name])
def test_configs_of_table_9_differ_only_in_the_optimizer(name: str) -> None:
    config, adamw = counted_configs.config(name), counted_configs.config(name.replace('_sgd', ''))
    assert config.optim_wrapper.optimizer == dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=0.0001)
    for key in ('model', 'train_dataloader', 'param_scheduler', 'train_cfg', 'auto_scale_lr'):
        assert config[key] == adamw[key]


def test_sparse_rcnn_uses_the_training_settings_of_its_authors() -> None:
    for name in ('sparse_rcnn_swin_t_3x', 'sparse_rcnn_r50_3x'):
        config = counted_configs.config(name)
        assert config.optim_wrapper.type == 'OptimWrapper' and config.optim_wrapper.clip_grad.max_norm == 1.0
        assert (config.param_scheduler[0].start_factor, config.param_scheduler[0].end) == (0.01, 1000)
        assert config.train_dataloader.dataset.filter_cfg.filter_empty_gt is False


OTHERS = [
    *PEERS,
    *(
        name
        for name in ALL
        if '_sgd_' in name or name.endswith('_one_gpu') or name.startswith(counted_configs.V2_SYSTEMS)
    ),
]


@pytest.mark.parametrize(
    'name', [name for name in ALL if name not in OTHERS and not name.startswith(counted_configs.MODERN)]
)
def test_schedules_and_optimizers_are_those_of_the_papers(name: str) -> None:
    config = counted_configs.config(name)
    assert config.optim_wrapper.optimizer.type == 'AdamW'
    batch = config.train_dataloader.batch_size
    assert (batch, config.auto_scale_lr.base_batch_size) == (2, 16)
    undecayed = {key for key, value in config.optim_wrapper.paramwise_cfg.custom_keys.items() if not value.decay_mult}
    assert {'norm', 'absolute_pos_embed', 'relative_position_bias_table'} <= undecayed
    if name.startswith('upernet'):
        assert config.train_cfg.max_iters == config.param_scheduler[1].end == 160_000
        rate = (0.00004, 0.05) if 'swinv2' in name else (0.00006, 0.01)
    else:
        epochs, milestones = {'1x': (12, [8, 11]), '3x': (36, [27, 33]), '6x': (72, [63, 69])}[
            name.removesuffix('_bf16')[-2:]
        ]
        assert (config.train_cfg.max_epochs, config.param_scheduler[1].milestones) == (epochs, milestones)
        assert config.param_scheduler[1].end == epochs
        rate = (0.0001, 0.05)
    assert (config.optim_wrapper.optimizer.lr, config.optim_wrapper.optimizer.weight_decay) == rate


@pytest.mark.parametrize(
    'name', [name for name in ALL if 'swinv2' in name and not name.startswith(counted_configs.V2_SYSTEMS)]
)
def test_v2_has_windows_of_16_and_no_weight_decay_for_its_additional_parameters(name: str) -> None:
    config = counted_configs.config(name)
    assert config.model.backbone.window_size == 16
    assert {'cpb_mlp', 'logit_scale'} <= config.optim_wrapper.paramwise_cfg.custom_keys.keys()


@pytest.mark.parametrize('name', [name for name in ALL if name.startswith('htc') and 'swinv2' not in name])
def test_htc_has_the_published_settings_with_and_without_stuff(name: str) -> None:
    config = counted_configs.config(name)
    plain = 'plain' in name
    kinds = [step.type for step in config.train_dataloader.dataset.pipeline]
    prefixes = config.train_dataloader.dataset.data_prefix
    assert (config.model.roi_head.semantic_head is None) == plain
    assert ('swin_backbone.InstaBoost' not in kinds) == plain
    assert ('seg' not in prefixes) == plain
    assert config.model.data_preprocessor.pad_seg is not plain
    resize = next(step for step in config.train_dataloader.dataset.pipeline if step.type == 'RandomResize')
    assert [tuple(scale) for scale in resize.scale] == [(1600, 400), (1600, 1400)]
    assert config.model.test_cfg.rcnn.nms.type == 'soft_nms'
    assert [head.with_conv_res for head in config.model.roi_head.mask_head] == [False, True, True]


def test_sparse_rcnn_has_300_proposals() -> None:
    model = counted_configs.config('sparse_rcnn_swin_t_3x').model
    assert model.rpn_head.num_proposals == model.test_cfg.rcnn.max_per_img == 300


def test_reppoints_v2_is_trained_with_larger_images() -> None:
    steps = counted_configs.config('reppoints_v2_swin_t_3x').train_dataloader.dataset.pipeline
    resize = next(step for step in dicts_in(steps) if step.get('type') == 'RandomChoiceResize')
    assert [tuple(scale) for scale in resize.scales] == [(side, 1333) for side in range(480, 961, 32)]


SWIN_SIZES = dict(variant=None, embed_dim=32, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8))
DEIT_SIZES = dict(embed_dim=32, depth=4, num_heads=2, out_indices=(0, 1, 2, 3))
PYRAMID, DEIT_PYRAMID = [32, 64, 128, 256], [8, 16, 32, 32]
NARROW: dict[str, dict[str, Any]] = {
    'cascade_deit_s_3x': dict(backbone=DEIT_SIZES, neck=dict(in_channels=DEIT_PYRAMID)),
    'cascade_swinv2_t_3x': dict(backbone=SWIN_SIZES, neck=dict(in_channels=PYRAMID)),
    'atss_swin_t_3x': dict(backbone=SWIN_SIZES, neck=dict(in_channels=PYRAMID[1:])),
    'reppoints_swin_t_3x': dict(backbone=SWIN_SIZES, neck=dict(in_channels=PYRAMID[1:])),
    'reppoints_v2_swin_t_3x': dict(backbone=SWIN_SIZES, neck=dict(in_channels=PYRAMID[1:])),
    'sparse_rcnn_swin_t_3x': dict(backbone=SWIN_SIZES, neck=dict(in_channels=PYRAMID)),
    'htc_swin_b_6x': dict(backbone=SWIN_SIZES),
    'upernet_swin_b_640_160k': dict(
        backbone=SWIN_SIZES, decode_head=dict(in_channels=PYRAMID), auxiliary_head=dict(in_channels=PYRAMID[2])
    ),
    'upernet_deit_s_160k': dict(
        backbone=DEIT_SIZES, decode_head=dict(in_channels=DEIT_PYRAMID), auxiliary_head=dict(in_channels=32)
    ),
}


@pytest.fixture(scope='module')
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('data') / 'shapes'
    write_shapes(root, ShapesSpec(train_count=6, val_count=2))
    return root


@pytest.mark.parametrize('name', NARROW)
def test_one_training_step_and_one_evaluated_image(name: str, shapes: Path) -> None:
    """With a narrow backbone; `swin-backbone check-configs` does the same for every config at full size."""
    config = counted_configs.config(name)
    for part, options in NARROW[name].items():
        config.model[part].update(options)
    if name.startswith('htc'):
        config.model.neck[0].update(in_channels=256, num_heads=8)
        config.model.neck[1].update(in_channels=PYRAMID)
    config_trials.prepare(config, str(shapes), side=64)
    loss, unreached, metrics = config_trials.run(config)
    assert 0 < loss < 1000
    assert not unreached
    assert metrics


def test_the_reppoints_demo_trains_and_evaluates(shapes: Path) -> None:
    config = load_config(str(REPOSITORY / 'configs/detection/reppoints_v2_swin_demo.py'), None)
    config_trials.prepare(config, str(shapes), side=128)
    loss, unreached, metrics = config_trials.run(config)
    assert 0 < loss < 100
    assert not unreached
    assert {name.rpartition('_')[0] for name in metrics} >= {'coco/bbox_mAP'} and 'coco/segm_mAP' not in metrics


def test_one_training_step_on_photographs(data_dir: Path) -> None:
    config = counted_configs.config('atss_swin_t_3x')
    for part, options in NARROW['atss_swin_t_3x'].items():
        config.model[part].update(options)
    config_trials.prepare(config, str(data_dir / 'coco100'), side=96)
    loss, unreached, metrics = config_trials.run(config)
    assert 0 < loss < 100
    assert not unreached
    assert 'coco/bbox_mAP' in metrics
