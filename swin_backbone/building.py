"""From options to modules: which attention, which blocks, which stages."""

from typing import Any

from torch import nn

from swin_backbone.attention import CosineWindowAttention, WindowAttention
from swin_backbone.blocks import PatchMerging, ResPostNormBlock, Stage, SwinBlock
from swin_backbone.ops import SLIDING
from swin_backbone.options import BackboneOptions
from swin_backbone.performer import PerformerAttention
from swin_backbone.relative_only import ContinuousRelativeOnlyAttention, RelativeOnlyAttention
from swin_backbone.sliding import CosineSlidingAttention, SlidingAttention

FEATURE_SEEDS = 1000
"""Seeds of random features per stage: more than a stage has blocks."""


def build_attention(options: BackboneOptions, index: int, number: int) -> nn.Module:
    """The attention of block ``number`` of stage ``index``."""
    shared: dict[str, Any] = dict(
        dim=options.channels(index),
        num_heads=options.num_heads[index],
        qkv_bias=options.qkv_bias,
        proj_drop=options.drop_rate,
    )
    method = options.attention_method
    if method == 'performer':
        return PerformerAttention(**shared, seed=FEATURE_SEEDS * index + number)
    shared.update(window=options.window, attn_drop=options.attn_drop_rate)
    if options.version == 2:
        shared.update(pretrained_window=(options.pretrained_window_sizes[index],) * 2)
    if method in SLIDING:
        shared.update(relative_bias=options.relative, method=method)
        return (SlidingAttention if options.version == 1 else CosineSlidingAttention)(**shared)
    shared.update(displaced=method == 'shifted-padding')
    if options.relative_only:
        return (RelativeOnlyAttention if options.version == 1 else ContinuousRelativeOnlyAttention)(**shared)
    shared.update(relative_bias=options.relative, backend=options.backend)
    return (WindowAttention if options.version == 1 else CosineWindowAttention)(**shared)


def build_block(options: BackboneOptions, index: int, number: int) -> SwinBlock:
    """Block ``number`` of stage ``index``."""
    block = SwinBlock if options.version == 1 else ResPostNormBlock
    dim = options.channels(index)
    return block(
        build_attention(options, index, number),
        dim,
        hidden=int(dim * options.mlp_ratio),
        drop=options.drop_rate,
        drop_path=options.drop_path(index, number),
        shifted=options.shifted and number % 2 == 1,
        main_norm=options.main_norm_every > 0 and (number + 1) % options.main_norm_every == 0,
    )


def build_stage(options: BackboneOptions, index: int) -> Stage:
    """Stage ``index`` with its merging, unless it is the last that is built."""
    last = index == options.num_stages - 1
    return Stage(
        [build_block(options, index, number) for number in range(options.depths[index])],
        None if last else PatchMerging(options.channels(index), norm_last=options.version == 2),
        options.window,
        with_cp=index in options.checkpointed_stages,
    )
