"""The demo configs on a few generated images, without a Runner."""

import copy
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope

from swin_backbone.engine.config import load_config, move_data_root
from tests.conftest import REPOSITORY
from tests.helpers import TINY

DETECTION = REPOSITORY / 'configs/detection/cascade_swin_demo.py'
SEGMENTATION = REPOSITORY / 'configs/segmentation/upernet_swin_demo.py'


@lru_cache
def read_config(path: Path) -> Config:
    return load_config(str(path), None)


def demo_config(path: Path, root: Path, test_size: int = 128) -> Config:
    """Return a demo config with a small backbone and test images of ``test_size`` pixels."""
    config = copy.deepcopy(read_config(path))
    move_data_root(config, str(root))
    config.model.backbone = dict(type='swin_backbone.SwinTransformer', **TINY)
    if path == DETECTION:
        config.model.neck.in_channels = [16, 32, 64, 128]
    else:
        config.model.decode_head.in_channels = [16, 32, 64, 128]
        config.model.auxiliary_head.in_channels = 64
    pipeline = config.test_dataloader.dataset.pipeline
    resize = dict(type='Resize', scale=(test_size, test_size), keep_ratio=True)
    config.test_dataloader.dataset.pipeline = [
        step for step in [pipeline[0], resize, *pipeline[1:]] if step is resize or step['type'] != 'Resize'
    ]
    return config


def build_model(config: Config, seed: int = 0) -> Any:
    """Build the model of a config with random weights, equal in every call."""
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        model = MODELS.build(config.model)
        detector = getattr(model, 'module', model)
        if hasattr(detector, 'rpn_head'):
            detector.rpn_head.init_weights()  # before this, proposals of Sparse R-CNN are not valid boxes
        return revert_sync_batchnorm(model).eval()


def batches(config: Config, size: int) -> list[Any]:
    """Return batches of ``size`` test images, loaded by the test pipeline of the config."""
    from mmengine.registry import DATASETS

    with DefaultScope.overwrite_default_scope(config.default_scope):
        data = DATASETS.build(config.test_dataloader.dataset)
    items = [data[i] for i in range(len(data))]
    return [pseudo_collate(items[start : start + size]) for start in range(0, len(items), size)]


@torch.no_grad()
def predict(config: Config, size: int = 2) -> list[Any]:
    """Predict the test images with random weights."""
    model = build_model(config)
    return [sample for batch in batches(config, size) for sample in model.test_step(batch)]
