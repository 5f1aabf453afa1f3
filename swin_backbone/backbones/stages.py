"""The classes that a backbone is built from, and the functions that build its stages."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from swin_backbone.attention.performer import PerformerAttention
from swin_backbone.attention.relative_only import ContinuousRelativeOnlyAttention, RelativeOnlyAttention
from swin_backbone.attention.sliding import CosineSlidingAttention, SlidingAttention
from swin_backbone.attention.window import AttentionOptions, CosineWindowAttention, WindowAttention
from swin_backbone.backbones.blocks import PatchEmbed, PatchMerging, ResPostNormBlock, Stage, SwinBlock
from swin_backbone.backbones.options import BackboneOptions

FEATURE_SEEDS = 1000
"""Offset between the random-feature seeds of stages; larger than the number of blocks in a stage."""


ATTENTIONS: dict[str, tuple[type[nn.Module], ...]] = {
    'window': (WindowAttention, CosineWindowAttention),
    'shifted-cyclic': (WindowAttention, CosineWindowAttention),
    'shifted-padding': (WindowAttention, CosineWindowAttention),
    'sliding-naive': (SlidingAttention, CosineSlidingAttention),
    'sliding-kernel': (SlidingAttention, CosineSlidingAttention),
    'performer': (PerformerAttention,),
}
"""Attention classes by ``attention_method``, for dot products and for cosines."""

RELATIVE_ONLY = (RelativeOnlyAttention, ContinuousRelativeOnlyAttention)
"""Attention classes for ``position_encoding='relative-only'``, for V1 and V2."""


def build_attention(options: BackboneOptions, index: int, number: int) -> nn.Module:
    """Create the attention of block ``number`` of stage ``index``."""
    classes = ATTENTIONS[options.attention_method] if options.position.content else RELATIVE_ONLY
    return classes[options.cosine](
        AttentionOptions(
            dim=options.channels(index),
            window=options.windows[index],
            num_heads=options.num_heads[index],
            qkv_bias=options.qkv_bias,
            attn_drop=options.attn_drop_rate,
            proj_drop=options.drop_rate,
            relative_bias=options.position.relative,
            backend=options.backend,
            method=options.attention_method,
            position_bias=options.position_bias,
            sequential=index in options.sequential_stages,
            pretrained_window=(options.pretrained_window_sizes[index],) * 2,
            seed=FEATURE_SEEDS * index + number,
        )
    )


@dataclass(frozen=True)
class Parts:
    """The classes that a backbone is built from. They determine its parameter names.

    Attributes:
        embed: patch embedding.
        blocks: blocks for V1 and V2.
        merging: patch merging.
        stages: name of the list of stages.
        stage: stage.
        attention: creates the attention of a block from the options, the index of the stage and the block's number.
    """

    embed: type[PatchEmbed] = PatchEmbed
    blocks: tuple[type[SwinBlock], ...] = (SwinBlock, ResPostNormBlock)
    merging: type[PatchMerging] = PatchMerging
    stages: str = 'layers'
    stage: type[Stage] = Stage
    attention: Callable[[BackboneOptions, int, int], nn.Module] = build_attention


def build_block(options: BackboneOptions, index: int, number: int, parts: Parts) -> SwinBlock:
    """Create block ``number`` of stage ``index``."""
    dim = options.channels(index)
    return parts.blocks[options.post_norm](
        parts.attention(options, index, number),
        dim,
        hidden=int(dim * options.mlp_ratio),
        drop=options.drop_rate,
        drop_path=options.drop_path(index, number),
        shifted=options.shifted and number % 2 == 1,
        main_norm=options.main_norm_every > 0 and (number + 1) % options.main_norm_every == 0,
    )


def build_stage(options: BackboneOptions, index: int, parts: Parts) -> Stage:
    """Create stage ``index``, with patch merging unless it is the last stage."""
    last = index == options.num_stages - 1
    return parts.stage(
        [build_block(options, index, number, parts) for number in range(options.depths[index])],
        None if last else parts.merging(options.channels(index), norm_last=options.version == 2),
        options.windows[index],
        with_cp=index in options.checkpointed_stages,
        shrink=options.small_maps == 'shrink',
    )
