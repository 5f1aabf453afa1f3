"""The extra layer of HTC++: global self-attention on the last map, between backbone and feature pyramid.

The Swin paper (appendix A2.2) adds 'a global self-attention layer at the output of the last stage' to its system-level
detectors, whose code was never published. A whole transformer block, attention and MLP, matches their parameters and
multiply-adds; attention alone does not. Other details are our choice: pre-norm, no position bias, a final norm.
"""

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn

from swin_backbone.backbones.global_block import GlobalBlock
from swin_backbone.backbones.swin import initialize
from swin_backbone.registry import MODELS


@MODELS.register_module()
class GlobalBlockNeck(BaseModule):
    """A transformer block on the coarsest map; the other maps are returned unchanged.

    Use it as the first of two necks: ``neck=[dict(type='swin_backbone.GlobalBlockNeck', ...), dict(type='FPN', ...)]``.
    Cells of the padding of a batch are not masked.

    Args:
        in_channels: channels of the coarsest map.
        num_heads: attention heads.
        width: channels of the block; if they differ from ``in_channels``, a 1x1 convolution reduces the map.
        reduction_groups: groups of that convolution.
        mlp_ratio: hidden channels of the MLP as a multiple of ``width``.
        drop_path_rate: rate of stochastic depth on both branches.
        init_cfg: initialiser of mmengine; truncated normal by default.
    """

    def __init__(
        self,
        in_channels: int,
        num_heads: int,
        width: int | None = None,
        reduction_groups: int = 1,
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.2,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        width = width or in_channels
        reduced = width != in_channels
        self.reduction = nn.Conv2d(in_channels, width, 1, groups=reduction_groups) if reduced else nn.Identity()
        self.block = GlobalBlock(width, num_heads, mlp_ratio, drop_path_rate)
        self.norm = nn.LayerNorm(width)
        self.apply(initialize)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Transform the last of ``maps`` ``[B, C_i, H_i, W_i]`` to ``[B, width, H, W]``."""
        last = self.reduction(maps[-1])
        tokens = self.block(last.flatten(2).transpose(1, 2))
        transformed = self.norm(tokens).transpose(1, 2).unflatten(2, last.shape[2:])
        return (*maps[:-1], transformed.contiguous())
