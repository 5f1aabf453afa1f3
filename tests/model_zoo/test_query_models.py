"""Counted cost of query-based networks compared with their real forward pass."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from swin_backbone.model_zoo.complexity import build_without_data, run_network
from tests.model_zoo import counted_configs

SHAPE = (96, 128)
SMALL = dict(variant=None, embed_dim=16, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8), window_size=4, init_cfg=None)


def small(name: str) -> Config:
    config = counted_configs.config(name)
    model = config.model
    model.backbone.update(SMALL)
    if name.startswith('dino'):
        model.num_queries, model.neck.in_channels = 40, [16, 32, 64, 128]
        model.encoder.num_layers = model.decoder.num_layers = 2
    else:
        head = model.get('panoptic_head') or model.decode_head
        head.update(num_queries=20, in_channels=[16, 32, 64, 128])
        head.transformer_decoder.num_layers = 4
        head.pixel_decoder.encoder.num_layers = 2
    return config


def cost(run: Callable[[], Any]) -> int:
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        run()
    return counter.get_total_flops()


def decode(model: Any, image: Tensor) -> None:
    model.decode_head(model.extract_feat(image), [])


@pytest.mark.parametrize('name', ['dino_swin_l_1x', 'mask2former_swin_t_50e', 'mask2former_swin_t_160k'])
def test_the_counted_cost_equals_that_of_the_real_forward_pass(name: str) -> None:
    """Without the backbone, whose padded attention is counted differently."""
    config = small(name)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        real = MODELS.build(copy.deepcopy(config.model)).eval()
    image, shape = torch.randn(1, 3, *SHAPE), dict(img_shape=SHAPE, batch_input_shape=SHAPE, ori_shape=SHAPE)
    if config.default_scope == 'mmdet':
        from mmdet.structures import DetDataSample

        run = partial(real, image, [DetDataSample(metainfo=shape)], mode='tensor')
    else:
        run = partial(decode, real, image)
    heads = cost(run) - cost(partial(real.extract_feat, image))
    model, image = build_without_data(config), torch.empty(1, 3, *SHAPE, device='meta')
    assert heads == cost(partial(run_network, model, image)) - cost(partial(model.extract_feat, image)) > 0
