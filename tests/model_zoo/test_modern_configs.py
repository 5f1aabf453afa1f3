"""Configs with the toolkits' recipes: everything except the backbone equals the toolkit's config."""

from typing import Any

import pytest

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

import torch
from mmengine.config import Config
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from swin_backbone.checkpoint.layouts import MMDET, rename
from swin_backbone.model_zoo.toolkit_backbones import config_folder, plain, quiet
from tests.model_zoo import counted_configs

M2F, SEG = 'mask2former/mask2former_swin-', '_8xb2-160k_ade20k-512x512'
UPER = 'pre_upernet_8xb2-160k_ade20k-512x512'
TOOLKIT_CONFIGS = {
    'mask2former_swin_t_50e': ('mmdet', f'{M2F}t-p4-w7-224_8xb2-lsj-50e_coco'),
    'mask2former_swin_s_50e': ('mmdet', f'{M2F}s-p4-w7-224_8xb2-lsj-50e_coco'),
    'mask2former_panoptic_swin_t_50e': ('mmdet', f'{M2F}t-p4-w7-224_8xb2-lsj-50e_coco-panoptic'),
    'mask2former_panoptic_swin_s_50e': ('mmdet', f'{M2F}s-p4-w7-224_8xb2-lsj-50e_coco-panoptic'),
    'mask2former_panoptic_swin_b_50e': ('mmdet', f'{M2F}b-p4-w12-384-in21k_8xb2-lsj-50e_coco-panoptic'),
    'mask2former_panoptic_swin_l_100e': ('mmdet', f'{M2F}l-p4-w12-384-in21k_16xb1-lsj-100e_coco-panoptic'),
    'dino_swin_l_1x': ('mmdet', 'dino/dino-5scale_swin-l_8xb2-12e_coco'),
    'dino_swin_l_3x': ('mmdet', 'dino/dino-5scale_swin-l_8xb2-36e_coco'),
    'rtmdet_swin_b_100e': ('mmdet', 'rtmdet/rtmdet_l_swin_b_4xb32-100e_coco'),
    'mask2former_swin_t_160k': ('mmseg', f'{M2F}t{SEG}'),
    'mask2former_swin_s_160k': ('mmseg', f'{M2F}s{SEG}'),
    'mask2former_swin_b_640_160k': ('mmseg', f'{M2F}b-in22k-384x384-pre_8xb2-160k_ade20k-640x640'),
    'mask2former_swin_l_640_160k': ('mmseg', f'{M2F}l-in22k-384x384-pre_8xb2-160k_ade20k-640x640'),
    'upernet_swin_b_22k_160k': ('mmseg', f'swin/swin-base-patch4-window7-in22k-{UPER}'),
    'upernet_swin_b_w12_22k_160k': ('mmseg', f'swin/swin-base-patch4-window12-in22k-384x384-{UPER}'),
    'upernet_swin_l_22k_160k': ('mmseg', f'swin/swin-large-patch4-window7-in22k-{UPER}'),
    'upernet_swin_l_w12_22k_160k': ('mmseg', f'swin/swin-large-patch4-window12-in22k-384x384-{UPER}'),
}
PARTS = ('model', 'train_dataloader', 'val_dataloader', 'val_evaluator', 'train_cfg', 'param_scheduler', 'custom_hooks')


def toolkit_config(name: str) -> Config:
    toolkit, path = TOOLKIT_CONFIGS[name]
    return Config.fromfile(config_folder(toolkit) / f'{path}.py', import_custom_modules=False)


def without_scopes(node: Any) -> Any:
    """Remove the ``_scope_`` keys that mmengine adds for configs of another package."""
    if isinstance(node, dict):
        return {key: without_scopes(value) for key, value in node.items() if key != '_scope_'}
    return [without_scopes(value) for value in node] if isinstance(node, (list, tuple)) else node


@pytest.mark.parametrize('name', TOOLKIT_CONFIGS)
def test_everything_but_the_backbone_equals_the_toolkits_config(name: str) -> None:
    ours, stock = counted_configs.config(name), toolkit_config(name)
    sizes = ours.model.pop('backbone'), stock.model.pop('backbone')
    # UPerNet's schedule is that of the original segmentation code; MMSegmentation's has another warm-up.
    for part in PARTS if name.startswith(counted_configs.MODERN) else ('model', 'val_dataloader', 'val_evaluator'):
        assert without_scopes(plain(ours.get(part))) == without_scopes(plain(stock.get(part))), part
    for key in ('type', 'optimizer', 'clip_grad'):
        value, expected = (config.optim_wrapper.get(key) for config in (ours, stock))
        assert without_scopes(plain(value)) == without_scopes(plain(expected)), key
    for key in ('drop_path_rate', 'window_size', 'with_cp', 'out_indices'):
        defaults = dict(window_size=7, with_cp=False, out_indices=(0, 1, 2, 3))
        value, expected = (size.get(key, defaults.get(key)) for size in sizes)
        assert value == expected, key


@pytest.mark.parametrize('name', TOOLKIT_CONFIGS)
def test_the_last_three_checkpoints_and_the_best_one_are_kept(name: str) -> None:
    checkpoint = counted_configs.config(name).default_hooks.checkpoint
    assert checkpoint.max_keep_ckpts == 3
    assert checkpoint.save_best in ('coco/bbox_mAP', 'coco/segm_mAP', 'coco_panoptic/PQ', 'mIoU')


class Model(nn.Module):
    """A model that consists of a backbone, on the meta device."""

    def __init__(self, config: Config, kind: str) -> None:
        super().__init__()
        with torch.device('meta'), DefaultScope.overwrite_default_scope(config.default_scope):
            self.backbone = MODELS.build({**config.model.backbone, 'type': kind, 'init_cfg': None})


def rates_and_decays(config: Config, kind: str) -> dict[str, tuple[float, float]]:
    """Return learning rate and weight decay of every parameter of a backbone class, by its name in the toolkits."""
    model, wrapper = Model(config, f'swin_backbone.{kind}'), config.optim_wrapper
    found: list[dict[str, Any]] = []
    with quiet():
        constructor = DefaultOptimWrapperConstructor(dict(optimizer=wrapper.optimizer), wrapper.get('paramwise_cfg'))
        constructor.add_params(found, model)
    names = {id(value): rename(name, MMDET, back=True) for name, value in model.backbone.named_parameters()}
    rate, decay = wrapper.optimizer.lr, wrapper.optimizer.weight_decay
    return {names[id(group['params'][0])]: (group.get('lr', rate), group.get('weight_decay', decay)) for group in found}


@pytest.mark.parametrize(
    'name', [name for name in TOOLKIT_CONFIGS if '_s_' in name or 'swin_l' in name or 'rtmdet' in name]
)
def test_learning_rates_and_weight_decays_equal_the_toolkits(name: str) -> None:
    # The toolkits' class cannot be built on the meta device; MMSwinTransformer has the same parameter names.
    ours, expected = (
        rates_and_decays(counted_configs.config(name), 'SwinTransformer'),
        rates_and_decays(toolkit_config(name), 'MMSwinTransformer'),
    )
    assert ours == expected
    assert len(set(ours.values())) > 1 or name.startswith('dino')


@pytest.mark.parametrize('size', ['b_50e', 'l_100e'])
def test_instance_configs_use_the_panoptic_recipe_of_the_same_size(size: str) -> None:
    """MMDetection has no instance config of this size; the authors' model list has the same schedule for both."""
    instances, panoptic = (
        counted_configs.config(f'mask2former_swin_{size}'),
        counted_configs.config(f'mask2former_panoptic_swin_{size}'),
    )
    assert instances.model.backbone == panoptic.model.backbone
    for part in ('train_cfg', 'param_scheduler', 'optim_wrapper'):
        assert plain(instances[part]) == plain(panoptic[part])
    heads = [config.model.panoptic_head for config in (instances, panoptic)]
    assert heads[0].num_queries == heads[1].num_queries and heads[0].in_channels == heads[1].in_channels
    assert instances.train_dataloader.batch_size == panoptic.train_dataloader.batch_size
    assert (heads[0].num_stuff_classes, len(heads[0].loss_cls.class_weight)) == (0, 81)
