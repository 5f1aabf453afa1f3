"""Estimate the memory of training on one GPU: parameters, gradients, AdamW's states and the backbone's activations.

Networks are built on the meta device, which takes seconds and no memory for the largest one. Activations are the
tensors that autograd saves for the backward pass in float32, with attention as one operator that saves its inputs (as
the Triton kernels and compiled graphs do); mixed precision needs about half of them. Necks, heads, temporary copies of
the optimizer and fragmentation are not included.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from swin_backbone.attention.kernels.custom_operator import window_attention_op
from swin_backbone.attention.kernels.sequential import MAX_PAIRS
from swin_backbone.attention.window import CosineWindowAttention, WindowAttention
from swin_backbone.attention.window_plan import WindowPlan
from swin_backbone.backbones.swin import SwinTransformer
from swin_backbone.errors import InputError
from swin_backbone.evaluation.tables import markdown_table
from swin_backbone.model_zoo.complexity import build_without_data, check_shape, default_shape

FLOAT32 = 4
ADAMW_STATES = 2


@dataclass(frozen=True)
class Memory:
    """Memory for training with one image per GPU, in bytes unless stated otherwise.

    Attributes:
        params: number of parameters of the whole network.
        activations: activations of the backbone.
        checkpointed: activations with ``with_cp=True``: the inputs of all blocks, and everything in the largest block.
        weights: attention weights of all windows in the largest block, which fused kernels do not store.
        sequential: the same with ``sequential`` attention.
        shape: height and width of the image in pixels.
    """

    params: int
    activations: int
    checkpointed: int
    weights: int
    sequential: int
    shape: tuple[int, int]


def estimate_config(path: Path, shape: tuple[int, int] | None) -> Memory:
    """Estimate the memory of the network of a config.

    Args:
        path: the config file.
        shape: height and width of the image in pixels; that of the papers if None.

    Raises:
        InputError: if the config cannot be read, or its backbone is not supported.
    """
    from swin_backbone.engine.config import load_config

    config = load_config(str(path), None)
    backbone = config.model.backbone.to_dict()
    if backbone.pop('type') != 'swin_backbone.SwinTransformer':
        raise InputError(f'the backbone of {path} is not swin_backbone.SwinTransformer: use a config with it.')
    params = sum(p.numel() for p in build_without_data(config).parameters())
    return estimate(backbone, shape or default_shape(config), params)


def estimate(backbone: dict[str, Any], shape: tuple[int, int], params: int | None = None) -> Memory:
    """Estimate the memory for a backbone, or for a network with it.

    Args:
        backbone: arguments of :class:`swin_backbone.SwinTransformer`.
        shape: height and width of the image in pixels.
        params: parameters of the whole network; those of the backbone if None.

    Raises:
        InputError: if the shape is not positive, or the attention is not window attention with queries and keys.
    """
    check_shape(shape)
    with torch.device('meta'):
        plain, recomputed = (SwinTransformer(**{**backbone, 'with_cp': with_cp}) for with_cp in (False, True))
        image = torch.empty(1, plain.options.in_channels, *shape)
    blocks, weights, sequential = [], [], []
    for model in (plain, recomputed):
        use_operator(model)
    for index, stage in enumerate(plain.stage_list):
        stride = plain.options.patch_size * 2**index
        plan = WindowPlan(-(-shape[0] // stride), -(-shape[1] // stride), stage.window)
        x = torch.empty(1, plan.height, plan.width, plain.options.channels(index), device='meta', requires_grad=True)
        blocks.append(saved_bytes(stage, partial(stage.blocks[-1], x, plan)))
        pairs = plain.options.num_heads[index] * plan.tokens**2
        weights.append(FLOAT32 * pairs * plan.num_windows)
        sequential.append(FLOAT32 * pairs * min(plan.num_windows, max(1, MAX_PAIRS // pairs)))
    return Memory(
        params=sum(p.numel() for p in plain.parameters()) if params is None else params,
        activations=saved_bytes(plain, partial(plain, image)),
        checkpointed=saved_bytes(recomputed, partial(recomputed, image)) + max(blocks),
        weights=max(weights),
        sequential=max(sequential),
        shape=shape,
    )


def use_operator(model: SwinTransformer) -> None:
    """Replace the forward of every attention in ``model`` by one operator that saves its inputs.

    Raises:
        InputError: if the attention is not window attention with queries and keys.
    """
    for stage in model.stage_list:
        for block in stage.blocks:
            attention: Any = block.attn
            if type(attention) not in (WindowAttention, CosineWindowAttention):
                raise InputError(f'{type(attention).__name__} is not supported: use windows with queries and keys.')
            attention.forward = partial(attend, attention)


def attend(module: Any, x: Tensor, plan: WindowPlan, shifted: bool) -> Tensor:
    """Compute attention like in compiled graphs."""
    scale = module.logit_scale_factor()
    tensor, factor = (scale, 1.0) if isinstance(scale, Tensor) else (None, scale)
    options = (tensor, factor, module.num_heads, list(module.window), shifted, False)
    return module.proj(window_attention_op(module.project(x), module.position_bias(), module.pad_value(), *options))


def saved_bytes(model: nn.Module, run: Callable[[], Any]) -> int:
    """Return the number of bytes that autograd saves in a forward pass, without the parameters."""
    own = {p.untyped_storage()._cdata for p in model.parameters()}
    kept: dict[int, int] = {}
    alive: list[Tensor] = []  # keep tensors, so that the address of a counted storage is not reused

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
            alive.append(x)
        return x

    def unpack(x: Tensor) -> Tensor:
        return x

    with saved_tensors_hooks(pack, unpack):
        run()
    return sum(kept.values())


def as_markdown(found: Memory, gpus: int) -> str:
    """Format a table in GB (10^9 bytes) per GPU, without and with ZeRO stage 1 over ``gpus`` GPUs."""
    parameters = FLOAT32 * found.params
    states = ADAMW_STATES * parameters
    rows: dict[str, tuple[float, float]] = {
        'parameters': (parameters, parameters),
        'gradients': (parameters, parameters),
        "AdamW's states": (states, states / gpus),
    }
    fixed = [sum(column) for column in zip(*rows.values(), strict=True)]
    rows['subtotal'] = (fixed[0], fixed[1])
    for name, size in (('without', found.activations), ('with', found.checkpointed)):
        rows[f'activations of the backbone, {name} checkpointing'] = (size, size)
        rows[f'total {name} checkpointing'] = (fixed[0] + size, fixed[1] + size)
    rows['attention weights of the largest block, if not fused'] = (found.weights, found.weights)
    rows['the same with sequential attention'] = (found.sequential, found.sequential)
    header = ('GB per GPU, one image, float32', 'states on every GPU', f'ZeRO stage 1 on {gpus} GPUs')
    return markdown_table(
        header, [[name, *(f'{value / 1e9:.2f}' for value in values)] for name, values in rows.items()]
    )
