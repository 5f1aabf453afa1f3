"""Small random classifiers of timm, torchvision and Transformers, and their feature maps."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.helpers import randomize

Options = dict[str, Any]
CLASSES = 10


@dataclass(frozen=True)
class Peer:
    """How to build a library's classifier and find the last block of a stage.

    Attributes:
        build: from the version, the sizes of our backbone and the side of the image in pixels.
        last_block: from the model and a stage.
    """

    build: Callable[[int, Options, int], nn.Module]
    last_block: Callable[[Any, int], nn.Module]


def build_timm(version: int, options: Options, side: int) -> nn.Module:
    name = 'swin_transformer' if version == 1 else 'swin_transformer_v2'
    module = pytest.importorskip(f'timm.models.{name}')
    network = module.SwinTransformer if version == 1 else module.SwinTransformerV2
    return network(img_size=side, num_classes=CLASSES, drop_path_rate=0.0, **options)


def build_torchvision(version: int, options: Options, side: int) -> nn.Module:
    module = pytest.importorskip('torchvision.models.swin_transformer')
    parts = {} if version == 1 else dict(block=module.SwinTransformerBlockV2, downsample_layer=module.PatchMergingV2)
    sizes = dict(options, window_size=[options['window_size']] * 2)
    return module.SwinTransformer([4, 4], **sizes, num_classes=CLASSES, stochastic_depth_prob=0.0, **parts)


def build_transformers(version: int, options: Options, side: int) -> nn.Module:
    library, kind = pytest.importorskip('transformers'), 'Swin' if version == 1 else 'Swinv2'
    config = getattr(library, f'{kind}Config')(image_size=side, num_labels=CLASSES, drop_path_rate=0.0, **options)
    return getattr(library, f'{kind}ForImageClassification')(config)


PEERS = {
    'timm': Peer(build_timm, lambda model, stage: model.layers[stage].blocks[-1]),
    'torchvision': Peer(build_torchvision, lambda model, stage: model.features[2 * stage + 1][-1]),
    'transformers': Peer(
        build_transformers,
        lambda model, stage: getattr(model, model.base_model_prefix).encoder.layers[stage].blocks[-1],
    ),
}


def build_peer(library: str, version: int, options: Options, side: int) -> nn.Module:
    """Return a classifier with random weights, biases and norms, in evaluation mode."""
    return randomize(PEERS[library].build(version, options, side)).eval()


@torch.no_grad()
def peer_maps(library: str, model: nn.Module, image: Tensor, stages: int) -> list[Tensor]:
    """Return the maps ``[B, C_i, h_i, w_i]`` of each stage before downsampling, after a layer norm without weights."""
    seen: list[Tensor] = []

    def keep(block: nn.Module, inputs: Any, output: Any, stage: int) -> None:
        tokens = output[0] if isinstance(output, tuple) else output
        rows, columns = (length // (4 << stage) for length in image.shape[2:])
        maps = tokens.reshape(len(image), rows, columns, -1)
        seen.append(F.layer_norm(maps, maps.shape[-1:]).permute(0, 3, 1, 2).contiguous())

    blocks = [PEERS[library].last_block(model, stage) for stage in range(stages)]
    hooks = [block.register_forward_hook(partial(keep, stage=stage)) for stage, block in enumerate(blocks)]
    try:
        model(image)
    finally:
        for hook in hooks:
            hook.remove()
    return seen
