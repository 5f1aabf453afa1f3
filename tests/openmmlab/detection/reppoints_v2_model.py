"""A small RepPoints V2 and inputs for it."""

from typing import Any

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor

from tests.conftest import REPOSITORY
from tests.helpers import TINY

CONFIG = REPOSITORY / 'configs/detection/_base_/reppoints_v2.py'


def model_config() -> ConfigDict:
    """Return the model of the config with small sizes."""
    model = Config.fromfile(CONFIG).model
    model.backbone = dict(type='swin_backbone.SwinTransformer', out_indices=(1, 2, 3), **TINY)
    model.neck.update(in_channels=[32, 64, 128], out_channels=32, norm_cfg=dict(type='GN', num_groups=4))
    model.bbox_head.update(in_channels=32, feat_channels=32, point_feat_channels=32, corner_dim=16, num_classes=3)
    model.bbox_head.norm_cfg = dict(type='GN', num_groups=4)
    return model


def build(model: ConfigDict) -> Any:
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(model)


def sample(boxes: list[list[float]], ignored: list[list[float]] | None = None) -> DetDataSample:
    data = DetDataSample()
    labels = torch.arange(len(boxes)) % 3
    data.gt_instances = InstanceData(bboxes=torch.tensor(boxes).view(-1, 4), labels=labels)
    crowd = torch.tensor(ignored or []).view(-1, 4)
    data.ignored_instances = InstanceData(bboxes=crowd, labels=torch.zeros(len(crowd), dtype=torch.long))
    return data


def batch(sizes: list[tuple[int, int]], samples: list[DetDataSample]) -> dict[str, Any]:
    """Create a batch of random images in the format of a data loader."""
    for (height, width), data in zip(sizes, samples, strict=True):
        scale = dict(scale_factor=(0.5, 0.5), ori_shape=(2 * height, 2 * width))
        data.set_metainfo(dict(img_shape=(height, width), **scale))
    inputs = [torch.randint(256, (3, *size), dtype=torch.uint8) for size in sizes]
    return dict(inputs=inputs, data_samples=samples)


def three_images() -> dict[str, Any]:
    """Create images with objects and a crowd, without objects, and with one object at the border."""
    samples = [
        sample([[3.0, 5.0, 40.0, 50.0], [30.0, 8.0, 63.0, 60.0], [8.0, 8.0, 16.0, 14.0]], [[0.0, 0.0, 20.0, 64.0]]),
        sample([]),
        sample([[0.0, 0.0, 70.0, 33.0]]),
    ]
    return batch([(64, 64), (50, 90), (33, 70)], samples)


def run(model: Any, data: dict[str, Any], mode: str) -> Any:
    data = model.data_preprocessor(data, training=mode == 'loss')
    return model(data['inputs'], data['data_samples'], mode=mode)


def random_outputs(sizes: list[tuple[int, int]], images: int) -> list[list[Tensor]]:
    """Create outputs of a head with different scores, and boxes of positive size (points 0 and 1 are apart)."""
    channels = (3, 18, 18, 2, 4, 3)
    outputs = [[torch.randn(images, c, *size) for size in sizes] for c in channels]
    for level in outputs[2]:
        level[:, :4] = level[:, :4] + torch.tensor([-1.5, -1.5, 1.5, 1.5]).view(1, 4, 1, 1)
    return outputs
