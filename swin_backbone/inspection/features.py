"""Seeing inside a backbone: how strong its features are where, and what a pixel's token attends to. Needs torch alone.

A stage's token stands for a square of ``stride`` pixels. Maps are padded at the right and bottom, to whole patches, to
even sizes between stages and to whole windows, and shifted blocks roll them. Everything here is led back through the
functions that lead it there (:mod:`swin_backbone.attention.plan`), so that it is right at the edges too.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_backbone.attention.kernels.eager import widen
from swin_backbone.attention.plan import WindowPlan, region_ids, window_partition
from swin_backbone.attention.window import CosineWindowAttention, WindowAttention
from swin_backbone.backbones.swin import SwinTransformer
from swin_backbone.errors import InputError

__all__ = [
    'AttentionView',
    'attention_of',
    'attentions_of',
    'feature_energies',
    'feature_energy',
    'reshape_transform',
    'to_pixels',
]


@dataclass(frozen=True)
class AttentionView:
    """What the token of one pixel attends to in one block.

    Attributes:
        weights: attention on the real tokens of the stage's map ``[heads, H, W]``, zero outside of the query's window.
        padded_share: attention on padded tokens ``[heads]``; with ``weights`` it sums to 1 for each head.
        window: the tokens that the query can see ``[H, W]``: its window, in a shifted block its region of it.
        query: row and column of the query's token.
        shifted: whether the windows of this block are displaced.
        stride: pixels a token, each way.
    """

    weights: Tensor
    padded_share: Tensor
    window: Tensor
    query: tuple[int, int]
    shifted: bool
    stride: int

    def pixels(self, size: tuple[int, int], head: int | None = None) -> Tensor:
        """The attention of one head, or the mean of all, on the pixels of an image of (height, width) ``size``.

        A pixel has the weight of its token.
        """
        return to_pixels(self.weights.mean(dim=0) if head is None else self.weights[head], self.stride, size)


def feature_energy(backbone: SwinTransformer, image: Tensor, stage: int) -> Tensor:
    """Root mean square over the channels of a stage's features, per pixel of the image.

    The features are those before the stage's output norm, which would give every token nearly the same energy.

    Args:
        backbone: V1 or V2; used as in evaluation.
        image: ``[1, C, H, W]``, normalised as the backbone expects it.
        stage: 0 to the last that is built.

    Returns:
        ``[H, W]``; a pixel has the energy of its token.

    Raises:
        InputError: there is no such stage, or more than one image.
    """
    return feature_energies(backbone, image, [stage])[0]


def feature_energies(backbone: SwinTransformer, image: Tensor, stages: Sequence[int]) -> list[Tensor]:
    """:func:`feature_energy` of several stages at the cost of one."""
    for stage in stages:
        check_request(backbone, image, stage)
    with recorded(backbone, [backbone.layers[stage] for stage in stages]) as records:
        backbone(image)
    size = (image.shape[2], image.shape[3])
    energies = []
    for stage in stages:
        features = records[backbone.layers[stage]].output[0]
        energies.append(to_pixels(features.square().mean(dim=-1).sqrt(), stride_of(backbone, stage), size))
    return energies


def attention_of(
    backbone: SwinTransformer, image: Tensor, pixel: tuple[int, int], stage: int, block: int
) -> AttentionView:
    """What the token of a pixel attends to.

    Args:
        backbone: V1 or V2; used as in evaluation.
        image: ``[1, C, H, W]``, normalised as the backbone expects it.
        pixel: row and column in the image.
        stage: 0 to the last that is built.
        block: 0 to the last of the stage; odd ones are shifted.

    Raises:
        InputError: there is no such pixel, stage or block, more than one image, or the block's attention is not one
            within windows.
    """
    return attentions_of(backbone, image, pixel, stage, [block])[0]


def attentions_of(
    backbone: SwinTransformer, image: Tensor, pixel: tuple[int, int], stage: int, blocks: Sequence[int]
) -> list[AttentionView]:
    """:func:`attention_of` for several blocks of a stage at the cost of one."""
    check_request(backbone, image, stage)
    if not (0 <= pixel[0] < image.shape[2] and 0 <= pixel[1] < image.shape[3]):
        raise InputError(
            f'the image has rows 0 to {image.shape[2] - 1} and columns 0 to {image.shape[3] - 1}, there is no pixel '
            f'{tuple(pixel)}.'
        )
    attentions = [window_attention_at(backbone, stage, block) for block in blocks]
    stride = stride_of(backbone, stage)
    query = (pixel[0] // stride, pixel[1] // stride)
    views = []
    with recorded(backbone, attentions) as records:
        backbone(image)
        for attention in attentions:
            features, plan, shifted = records[attention].inputs
            views.append(view_of(attention, features, plan, shifted and plan.shift != (0, 0), query, stride))
    return views


def window_attention_at(backbone: SwinTransformer, stage: int, block: int) -> WindowAttention | CosineWindowAttention:
    """The attention of a block.

    Raises:
        InputError: there is no such block, or its attention is not one of queries and keys within windows.
    """
    blocks: Any = backbone.layers[stage].blocks
    if not 0 <= block < len(blocks):
        raise InputError(f'stage {stage} has blocks 0 to {len(blocks) - 1}, there is no block {block}.')
    attention = blocks[block].attn
    if type(attention) not in (WindowAttention, CosineWindowAttention):
        raise InputError(
            f'{type(attention).__name__} has no queries and keys in windows to show: choose a backbone with window '
            'attention.'
        )
    return attention


def view_of(
    attention: WindowAttention | CosineWindowAttention,
    features: Tensor,
    plan: WindowPlan,
    shifted: bool,
    query: tuple[int, int],
    stride: int,
) -> AttentionView:
    """The view of one query token, from the features ``[1, H, W, C]`` that its block's attention reads."""
    numbers = window_partition(token_numbers(plan), plan, shifted)[0, ..., 0]  # [nW, N], 0 for padding
    number = query[0] * plan.width + query[1] + 1
    window, place = (int(index) for index in (numbers.cpu() == number).nonzero()[0])
    weights = query_weights(attention, features, plan, shifted, window, place)
    keys = numbers[window].to(weights.device)
    spread = weights.new_zeros(len(weights), plan.height * plan.width + 1).index_add_(1, keys, weights)
    seen = torch.zeros(plan.height * plan.width + 1, dtype=torch.bool)
    regions = region_ids(plan)[window] if shifted else torch.zeros(plan.tokens, dtype=torch.int)
    seen[numbers[window][regions == regions[place]]] = True
    shape = (plan.height, plan.width)
    return AttentionView(
        weights=spread[:, 1:].reshape(-1, *shape),
        padded_share=spread[:, 0],
        window=seen[1:].reshape(shape),
        query=query,
        shifted=shifted,
        stride=stride,
    )


def token_numbers(plan: WindowPlan) -> Tensor:
    """The real tokens of a map counted from 1, ``[1, H, W, 1]``, so that padding with zeros can be told from them."""
    return torch.arange(1, plan.height * plan.width + 1).reshape(1, plan.height, plan.width, 1)


def query_weights(
    attention: WindowAttention | CosineWindowAttention,
    features: Tensor,
    plan: WindowPlan,
    shifted: bool,
    window: int,
    place: int,
) -> Tensor:
    """Attention weights ``[heads, N]`` of the token at ``place`` in a window, as the eager backend defines them."""
    if isinstance(attention, CosineWindowAttention):
        bias = attention.qkv_bias()
        qkv = attention.normalize(F.linear(features, attention.qkv.weight, bias))
        pad_value, scale = None if bias is None else attention.normalize(bias), attention.logit_scale_factor()
    else:
        qkv, pad_value, scale = attention.qkv(features), attention.qkv.bias, attention.scale
    tokens = window_partition(qkv, plan, shifted, pad_value)[0, window]  # [N, 3C]
    q, k, _ = tokens.reshape(plan.tokens, 3, attention.num_heads, -1).permute(1, 2, 0, 3)  # each [heads, N, d]
    logits = widen((q[:, place, None] * scale).to(k.dtype) @ k.transpose(-2, -1))[:, 0]
    position = attention.position_bias()
    if position is not None:
        logits = logits + widen(position)[:, place]
    if shifted:
        logits = logits + plan.mask(qkv).to(logits.dtype)[window, place]
    return logits.softmax(dim=-1)


@dataclass(frozen=True)
class Record:
    """One call of a module: what it was given and what it returned."""

    inputs: tuple[Any, ...]
    output: Any


@contextmanager
def recorded(backbone: nn.Module, modules: Sequence[nn.Module]) -> Iterator[dict[nn.Module, Record]]:
    """Keep the last call of each module while the backbone runs as in evaluation, without gradients."""
    records: dict[nn.Module, Record] = {}

    def keep(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        records[module] = Record(inputs, output)

    training, handles = backbone.training, [module.register_forward_hook(keep) for module in modules]
    try:
        with torch.no_grad():
            backbone.eval()
            yield records
    finally:
        for handle in handles:
            handle.remove()
        backbone.train(training)


def check_request(backbone: SwinTransformer, image: Tensor, stage: int) -> None:
    """Refuse several images, and stages that are not there."""
    if image.dim() != 4 or image.shape[0] != 1:
        raise InputError(f'expected one image [1, C, H, W], got {tuple(image.shape)}.')
    if not 0 <= stage < len(backbone.layers):
        raise InputError(f'the backbone has stages 0 to {len(backbone.layers) - 1}, there is no stage {stage}.')


def stride_of(backbone: SwinTransformer, stage: int) -> int:
    """Pixels of the image that a token of a stage covers, each way."""
    return backbone.options.patch_size * 2**stage


def to_pixels(tokens: Tensor, stride: int, size: tuple[int, int]) -> Tensor:
    """A map of tokens ``[h, w]`` on the pixels of an image ``[H, W]``, without what lies beyond its edges."""
    pixels = tokens.repeat_interleave(stride, dim=0).repeat_interleave(stride, dim=1)
    return pixels[: size[0], : size[1]]


def reshape_transform(features: Tensor) -> Tensor:
    """Features of a block or norm ``[B, H, W, C]`` as ``[B, C, H, W]``, as class activation tools expect."""
    return features.permute(0, 3, 1, 2)
