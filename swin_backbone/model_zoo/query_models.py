"""Forward passes of Mask2Former and DINO for the meta device, on which map sizes cannot be read from tensors."""

from typing import Any

import torch
from torch import Tensor

Part = Any
"""A module of a toolkit; its attributes are untyped."""


def deformable_attention(module: Part, query: Tensor, value: Tensor | None = None, **_: Any) -> Tensor:
    """Count the projections of a deformable attention; its sampling is not counted."""
    samples = module.value_proj(query if value is None else value)
    module.sampling_offsets(query)
    module.attention_weights(query)
    return module.output_proj(samples.new_empty(*query.shape[:-1], samples.shape[-1]))


def pixel_decoder(module: Part, maps: tuple[Tensor, ...]) -> tuple[Tensor, list[Tensor]]:
    """Run Mask2Former's pixel decoder; return mask features and the maps for the queries, lowest resolution first."""
    levels = [convolution(maps[-1 - index]) for index, convolution in enumerate(module.input_convs)]
    tokens = flatten(levels)
    for layer in module.encoder.layers:
        tokens = layer(tokens, query_pos=tokens, key_padding_mask=None)
    for index in range(len(maps) - len(levels) - 1, -1, -1):
        levels.append(module.output_convs[index](module.lateral_convs[index](maps[index])))
    return module.mask_feature(levels[-1]), levels[: module.num_outs]


def run_dino(model: Part, maps: tuple[Tensor, ...]) -> None:
    """Run encoder, query selection, decoder and head of DINO on the maps of its neck."""
    tokens = flatten(maps)
    for layer in model.encoder.layers:
        tokens = layer(tokens, query_pos=tokens, key_padding_mask=None)
    head, last = model.bbox_head, model.decoder.num_layers
    memory = model.memory_trans_fc(tokens)
    head.cls_branches[last](memory)
    head.reg_branches[last](memory)
    states, boxes = model.decoder(
        tokens.new_empty(1, model.num_queries, tokens.shape[-1]),
        value=tokens,
        key_padding_mask=None,
        self_attn_mask=None,
        reference_points=tokens.new_empty(1, model.num_queries, 4),
        spatial_shapes=None,
        level_start_index=None,
        valid_ratios=tokens.new_ones(1, len(maps), 2),
        reg_branches=head.reg_branches,
    )
    head(states, list(boxes))


def flatten(maps: tuple[Tensor, ...] | list[Tensor]) -> Tensor:
    """Flatten all maps ``[B, C, h, w]`` to one sequence of tokens ``[B, N, C]``."""
    return torch.cat([one.flatten(2).transpose(1, 2) for one in maps], dim=1)
