"""Patch embedding, Swin blocks of both versions, patch merging, and stages. The layout is ``[B, H, W, C]``."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import Tensor, nn

from swin_backbone.attention.kernels.cpu import tokenwise
from swin_backbone.attention.window_plan import WindowPlan, is_recording
from swin_backbone.errors import InputError


def needed_padding(size: Sequence[int], multiple: int) -> tuple[int, int]:
    """Return the rows and columns of padding at the bottom and right that make ``size`` a multiple of ``multiple``.

    In compiled and recorded graphs this is always ``multiple - 1``, because a branch on the size would need a graph per
    outcome. Callers ignore rows and columns beyond a multiple.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return multiple - 1, multiple - 1
    return -size[0] % multiple, -size[1] % multiple


def to_dtype_of(layer: nn.Module, x: Tensor) -> Tensor:
    """Convert ``x`` to the dtype of the weights of ``layer``, unless these are quantised or inside a wrapper."""
    weight = getattr(layer, 'weight', None)
    return x.to(weight.dtype) if isinstance(weight, Tensor) and weight.is_floating_point() else x


class DropPath(nn.Module):
    """Stochastic depth: drop a residual branch per sample and scale up the others (Huang et al., 2016).

    Args:
        rate: probability of dropping a sample's branch in training.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Drop samples of ``x`` ``[B, ...]`` in training."""
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        kept = self.draw(x.new_empty((x.shape[0],) + (1,) * (x.dim() - 1)), keep)
        return x * kept.div_(keep) if keep > 0.0 else x * kept

    def draw(self, kept: Tensor, keep: float) -> Tensor:
        """Fill ``kept`` with ones with probability ``keep``, and zeros otherwise."""
        return kept.bernoulli_(keep)

    def extra_repr(self) -> str:
        """Return the rate, for printing."""
        return f'rate={self.rate:.3f}'


class Mlp(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, dim: int, hidden: int, drop: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        """Transform every token of ``x`` ``[..., C]``."""
        return tokenwise(self.transform, x, self.fc1, self.act, self.fc2, self.drop)

    def transform(self, tokens: Tensor) -> Tensor:
        """Apply the layers to ``[..., C]`` without splitting the tokens into groups."""
        return self.drop(self.fc2(self.drop(self.act(self.fc1(tokens)))))


class PatchEmbed(nn.Module):
    """Patch embedding: a convolution with kernel and stride ``patch_size``, and a norm (Swin paper, section 3.1)."""

    def __init__(self, patch_size: int, in_channels: int, embed_dim: int, patch_norm: bool) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_channels, embed_dim, kernel_size=patch_size, stride=patch_size)
        self.norm = nn.LayerNorm(embed_dim) if patch_norm else nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        """Embed ``[B, in_channels, H, W]``, zero-padded to whole patches, as ``[B, ceil(H/p), ceil(W/p), C]``."""
        bottom, right = needed_padding(image.shape[2:], self.patch_size)
        if bottom or right:
            image = F.pad(image, (0, right, 0, bottom))
        return self.norm(self.proj(image).permute(0, 2, 3, 1))


class PatchMerging(nn.Module):
    """Patch merging: half the size of the map, twice the channels (Swin paper, section 3.1).

    Args:
        dim: channels ``C`` before merging.
        norm_last: whether the norm follows the reduction, over ``2C`` channels (V2), or precedes it, over ``4C`` (V1).
    """

    def __init__(self, dim: int, norm_last: bool) -> None:
        super().__init__()
        self.norm_last = norm_last
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(2 * dim if norm_last else 4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        """Merge ``[B, H, W, C]``, zero-padded to even size, to ``[B, ceil(H/2), ceil(W/2), 2C]``."""
        _, height, width, _ = x.shape
        bottom, right = needed_padding((height, width), 2)
        if bottom or right:
            x = F.pad(x, (0, 0, 0, right, 0, bottom))
        even_rows, odd_rows = x[:, 0:height:2], x[:, 1 : height + 1 : 2]
        # The order of the four neighbours in published weights: rows vary first.
        x = self.join([rows[:, :, first : width + first : 2] for first in (0, 1) for rows in (even_rows, odd_rows)])
        return self.norm(self.reduction(x)) if self.norm_last else self.reduction(self.norm(x))

    def join(self, neighbours: list[Tensor]) -> Tensor:
        """Concatenate the channels of four neighbours ``[B, h, w, C]``: ``[B, h, w, 4C]``."""
        return torch.cat(neighbours, -1)


class SwinBlock(nn.Module):
    """V1's block, norms before attention and MLP (Swin paper, equation 3).

    Args:
        attn: attention module; maps ``[B, H, W, C]``, a plan and ``shifted`` to a map of the same shape.
        dim: channels.
        hidden: hidden channels of the MLP.
        drop: dropout of the MLP.
        drop_path: rate of stochastic depth on both branches.
        shifted: whether the windows of this block are shifted.
        main_norm: whether the block ends with a norm on the main branch (V2's largest sizes).
    """

    def __init__(
        self,
        attn: nn.Module,
        dim: int,
        hidden: int,
        drop: float = 0.0,
        drop_path: float = 0.0,
        shifted: bool = False,
        main_norm: bool = False,
    ) -> None:
        super().__init__()
        self.shifted = shifted
        self.norm1 = nn.LayerNorm(dim)
        self.set_attention(attn)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(dim)
        self.build_mlp(dim, hidden, drop)
        self.norm3 = nn.LayerNorm(dim) if main_norm else nn.Identity()

    def forward(self, x: Tensor, plan: WindowPlan) -> Tensor:
        """Transform ``[B, H, W, C]``; same shape out."""
        x = x + self.drop_path(self.attn(self.norm1(x), plan, self.shifted))
        x = x + self.drop_path(self.apply_mlp(self.norm2(x)))
        return self.norm3(x)

    def set_attention(self, attn: nn.Module) -> None:
        """Register ``attn`` under its name in state dicts."""
        self.attn = attn

    def build_mlp(self, dim: int, hidden: int, drop: float) -> None:
        """Create the MLP."""
        self.mlp = Mlp(dim, hidden, drop)

    def apply_mlp(self, x: Tensor) -> Tensor:
        """Transform every token of ``x`` ``[..., C]``."""
        return self.mlp(x)


class ResPostNormBlock(SwinBlock):
    """V2's block, norms at the end of each residual branch (Swin V2 paper, section 3.2).

    Weights and biases of the norms are zero at first, so that a new block is the identity, as in the original code.
    """

    def forward(self, x: Tensor, plan: WindowPlan) -> Tensor:
        """Transform ``[B, H, W, C]``; same shape out."""
        x = x + self.drop_path(self.norm1(self.attn(x, plan, self.shifted)))
        x = x + self.drop_path(self.norm2(self.apply_mlp(x)))
        return self.norm3(x)


class Stage(nn.Module):
    """The blocks of one resolution, and patch merging for the next stage.

    Args:
        blocks: the blocks in order.
        downsample: patch merging, or None in the last stage that is built.
        window: rows and columns of a window.
        with_cp: whether each block is recomputed in the backward pass instead of storing its activations.
        shrink: whether windows shrink on small maps, see :meth:`WindowPlan.shrunk`.
    """

    def __init__(
        self,
        blocks: list[SwinBlock],
        downsample: PatchMerging | None,
        window: tuple[int, int],
        with_cp: bool,
        shrink: bool,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample
        self.window = window
        self.with_cp = with_cp
        self.shrink = shrink

    def forward(self, x: Tensor) -> Tensor:
        """Apply the blocks to ``[B, H, W, C]``. The caller applies :meth:`merge`: it also needs the map before."""
        plan = self.plan(x)
        for block in self.blocks:
            if self.with_cp and self.training and torch.is_grad_enabled():
                x = torch.utils.checkpoint.checkpoint(block, x, plan, use_reentrant=False)
            else:
                x = block(x, plan)
        return x

    def plan(self, x: Tensor) -> WindowPlan:
        """Return the window plan of ``x``.

        Raises:
            InputError: if windows shrink, and a graph is recorded for images of several sizes.
        """
        plan = WindowPlan(x.shape[1], x.shape[2], self.window)
        if not self.shrink:
            return plan
        if is_recording() and not all(type(side) is int for side in plan.size):
            raise InputError(
                "small_maps='shrink' chooses windows by the size of the map, which a graph for several sizes does not "
                'support: export it for one size, with dynamic=False.'
            )
        return plan.shrunk()

    def merge(self, x: Tensor) -> Tensor:
        """Merge patches for the next stage; return ``x`` unchanged after the last stage."""
        return x if self.downsample is None else self.downsample(x)
