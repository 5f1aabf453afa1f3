"""Feature energy of the stages, and attention of the token at a pixel, in the pixels of the input image.

A token of a stage covers a square of ``stride`` pixels. Padding and shifts are reversed with the functions of
:mod:`swin_backbone.attention.window_plan`, so the results are exact at the edges of the image.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from swin_backbone.attention.kernels.eager import widen
from swin_backbone.attention.window import CosineWindowAttention, WindowAttention
from swin_backbone.attention.window_plan import WindowPlan, region_ids, window_partition
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
    """The attention of the token at a pixel in one block.

    Attributes:
        weights: attention on the real tokens of the stage's map ``[heads, H, W]``, zero outside the query's window.
        padded_share: attention on padded tokens ``[heads]``; with ``weights`` it sums to 1 for each head.
        window: whether the query attends to each token ``[H, W]``: its window, or its region in a shifted window.
        query: row and column of the query token.
        shifted: whether the windows of the block are shifted.
        stride: pixels per token, in each direction.
    """

    weights: Tensor
    padded_share: Tensor
    window: Tensor
    query: tuple[int, int]
    shifted: bool
    stride: int

    def pixels(self, size: tuple[int, int], head: int | None = None) -> Tensor:
        """Return the weights of one head, or the mean of all heads, for the pixels of an image of ``size`` (H, W)."""
        return to_pixels(self.weights.mean(dim=0) if head is None else self.weights[head], self.stride, size)


def feature_energy(backbone: SwinTransformer, image: Tensor, stage: int) -> Tensor:
    """Compute the root mean square over the channels of a stage's features, per pixel of the image.

    The features are those before the output norm, which would give all tokens nearly the same energy.

    Args:
        backbone: V1 or V2; it runs in evaluation mode.
        image: ``[1, C, H, W]``, normalised as the backbone expects.
        stage: index of a stage.

    Returns:
        ``[H, W]``; each pixel has the energy of its token.

    Raises:
        InputError: if there is no such stage, or more than one image.
    """
    return feature_energies(backbone, image, [stage])[0]


def feature_energies(backbone: SwinTransformer, image: Tensor, stages: Sequence[int]) -> list[Tensor]:
    """Compute :func:`feature_energy` for several stages in one forward pass."""
    for stage in stages:
        check_request(backbone, image, stage)
    with record_calls(backbone, [backbone.layers[stage] for stage in stages]) as records:
        backbone(image)
    energies = []
    for stage in stages:
        features = records[backbone.layers[stage]].output[0]
        energy = features.square().mean(dim=-1).sqrt()
        energies.append(to_pixels(energy, stage_stride(backbone, stage), (image.shape[2], image.shape[3])))
    return energies


def attention_of(
    backbone: SwinTransformer, image: Tensor, pixel: tuple[int, int], stage: int, block: int
) -> AttentionView:
    """Compute the attention of the token at a pixel.

    Args:
        backbone: V1 or V2; it runs in evaluation mode.
        image: ``[1, C, H, W]``, normalised as the backbone expects.
        pixel: row and column in the image.
        stage: index of a stage.
        block: index of a block of the stage; odd ones are shifted.

    Raises:
        InputError: if there is no such pixel, stage or block, or more than one image, or no window attention.
    """
    return attentions_of(backbone, image, pixel, stage, [block])[0]


def attentions_of(
    backbone: SwinTransformer, image: Tensor, pixel: tuple[int, int], stage: int, blocks: Sequence[int]
) -> list[AttentionView]:
    """Compute :func:`attention_of` for several blocks of a stage in one forward pass."""
    check_request(backbone, image, stage)
    height, width = image.shape[2:]
    if not (0 <= pixel[0] < height and 0 <= pixel[1] < width):
        raise InputError(
            f'the image has rows 0 to {height - 1} and columns 0 to {width - 1}, there is no pixel {tuple(pixel)}.'
        )
    attentions = [window_attention_of(backbone, stage, block) for block in blocks]
    stride = stage_stride(backbone, stage)
    views = []
    with record_calls(backbone, attentions) as records:
        backbone(image)
        for attention in attentions:
            features, plan, shifted = records[attention].inputs
            query = (pixel[0] // stride, pixel[1] // stride)
            views.append(build_view(attention, features, plan, shifted and plan.shift != (0, 0), query, stride))
    return views


def window_attention_of(backbone: SwinTransformer, stage: int, block: int) -> WindowAttention:
    """Return the attention module of a block.

    Raises:
        InputError: if there is no such block, or it has no window attention with queries and keys.
    """
    blocks: Any = backbone.layers[stage].blocks
    if not 0 <= block < len(blocks):
        raise InputError(f'stage {stage} has blocks 0 to {len(blocks) - 1}, there is no block {block}.')
    module = getattr(blocks[block], 'attn', blocks[block])  # blocks of Swin-Mixer have no attn
    attention = getattr(module, 'w_msa', module)
    if type(attention) not in (WindowAttention, CosineWindowAttention):
        raise InputError(
            f'{type(attention).__name__} has no queries and keys in windows: choose a backbone with window attention.'
        )
    return attention


def build_view(
    attention: WindowAttention, features: Tensor, plan: WindowPlan, shifted: bool, query: tuple[int, int], stride: int
) -> AttentionView:
    """Build the view of one query token from the input features ``[1, H, W, C]`` of its attention module."""
    shape, count = (plan.height, plan.width), plan.height * plan.width
    # Real tokens are numbered from 1, so that 0 is padding.
    numbered = torch.arange(1, count + 1).reshape(1, *shape, 1)
    numbers = window_partition(numbered, plan, shifted)[0, ..., 0]  # [nW, N]
    window, place = (numbers == query[0] * plan.width + query[1] + 1).nonzero()[0].tolist()
    weights = query_weights(attention, features, plan, shifted, window, place)  # [heads, N]
    keys = numbers[window]
    spread = weights.new_zeros(len(weights), count + 1).index_add_(1, keys.to(weights.device), weights)
    regions = region_ids(plan)[window] if shifted else torch.zeros_like(keys)
    seen = torch.zeros(count + 1, dtype=torch.bool)
    seen[keys[regions == regions[place]]] = True
    return AttentionView(
        weights=spread[:, 1:].reshape(-1, *shape),
        padded_share=spread[:, 0],
        window=seen[1:].reshape(shape),
        query=query,
        shifted=shifted,
        stride=stride,
    )


def query_weights(
    attention: WindowAttention, features: Tensor, plan: WindowPlan, shifted: bool, window: int, place: int
) -> Tensor:
    """Compute attention weights ``[heads, N]`` of the token at ``place`` in a window, like the eager kernel."""
    qkv = attention.project(features)
    tokens = window_partition(qkv, plan, shifted, attention.pad_value())[0, window]  # [N, 3C]
    q, k, _ = tokens.reshape(plan.tokens, 3, attention.num_heads, -1).permute(1, 2, 0, 3)  # each [heads, N, d]
    scaled = (q[:, place, None] * attention.logit_scale_factor()).to(k.dtype)
    logits = widen(scaled @ k.transpose(-2, -1))[:, 0]
    bias = attention.position_bias(plan.window)
    if bias is not None:
        logits = logits + widen(bias)[:, place]
    if shifted:
        logits = logits + plan.mask(qkv).to(logits.dtype)[window, place]
    return logits.softmax(dim=-1)


class Record(NamedTuple):
    """The inputs and the output of one call of a module."""

    inputs: tuple[Any, ...]
    output: Any


@contextmanager
def record_calls(backbone: nn.Module, modules: Sequence[nn.Module]) -> Iterator[dict[nn.Module, Record]]:
    """Record the last call of each module, with the backbone in evaluation mode and without gradients."""
    records: dict[nn.Module, Record] = {}

    def record(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        records[module] = Record(inputs, output)

    training = backbone.training
    handles = [module.register_forward_hook(record) for module in modules]
    try:
        with torch.no_grad():
            backbone.eval()
            yield records
    finally:
        for handle in handles:
            handle.remove()
        backbone.train(training)


def check_request(backbone: SwinTransformer, image: Tensor, stage: int) -> None:
    """Raise InputError if there is more than one image, or no such stage."""
    if image.dim() != 4 or image.shape[0] != 1:
        raise InputError(f'expected one image [1, C, H, W], got {tuple(image.shape)}.')
    if not 0 <= stage < len(backbone.layers):
        raise InputError(f'the backbone has stages 0 to {len(backbone.layers) - 1}, there is no stage {stage}.')


def stage_stride(backbone: SwinTransformer, stage: int) -> int:
    """Return the pixels per token of a stage, in each direction."""
    return backbone.options.patch_size * 2**stage


def to_pixels(tokens: Tensor, stride: int, size: tuple[int, int]) -> Tensor:
    """Repeat each token of a map ``[h, w]`` for its pixels, and crop to the image ``[H, W]``."""
    pixels = tokens.repeat_interleave(stride, dim=0).repeat_interleave(stride, dim=1)
    return pixels[: size[0], : size[1]]


def reshape_transform(features: Tensor) -> Tensor:
    """Permute features of a block or norm ``[B, H, W, C]`` to ``[B, C, H, W]``, as class activation tools expect."""
    return features.permute(0, 3, 1, 2)
