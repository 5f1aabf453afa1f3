"""The BiFPN of RepPoints V2 (EfficientDet paper, section 3, with plain 3x3 convolutions)."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from swin_backbone.errors import InputError
from swin_backbone.registry import MODELS

FUSION_EPS = 1e-4


class FastFusion(nn.Module):
    """Weighted sum of maps of one shape, followed by swish: the paper's 'fast normalised fusion'.

    Args:
        num_inputs: number of input maps.
    """

    def __init__(self, num_inputs: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(1, 1, 1, 1, num_inputs))  # the shape of the published weights

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Fuse maps of one shape ``[B, C, H, W]``."""
        shares = self.weights.flatten().relu()
        shares = shares / (shares.sum() + FUSION_EPS)
        fused = torch.zeros_like(maps[0])
        for share, x in zip(shares, maps, strict=True):
            fused = fused + share * x
        return F.silu(fused)


def _downsample(x: Tensor) -> Tensor:
    return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)


class BiFPNLayer(nn.Module):
    """One top-down and one bottom-up pass.

    Args:
        in_channels: channels of every input level.
        out_channels: channels of every output level; levels with this number have no lateral convolution.
        norm_cfg: norm after every convolution.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int, norm_cfg: dict[str, Any]) -> None:
        super().__init__()
        last = len(in_channels) - 1

        def conv(channels: int, kernel_size: int) -> ConvModule:
            return ConvModule(
                channels, out_channels, kernel_size, padding=kernel_size // 2, norm_cfg=norm_cfg, act_cfg=None
            )

        self.lateral_convs = nn.ModuleList(
            nn.Identity() if channels == out_channels else conv(channels, 1) for channels in in_channels
        )
        self.lateral_combine = nn.ModuleList(FastFusion(2) for _ in range(last))
        self.lateral_combine_conv = nn.ModuleList(conv(out_channels, 3) for _ in range(last))
        self.out_combine = nn.ModuleList(FastFusion(2 if level == last else 3) for level in range(1, last + 1))
        self.out_combine_conv = nn.ModuleList(conv(out_channels, 3) for _ in range(last))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Fuse levels ``[B, in_channels[i], H_i, W_i]``, finest first, to ``[B, out_channels, H_i, W_i]``."""
        laterals = [lateral(x) for lateral, x in zip(self.lateral_convs, maps, strict=True)]
        outs = list(laterals)
        last = len(outs) - 1
        for i in reversed(range(last)):
            above = F.interpolate(outs[i + 1], size=outs[i].shape[-2:], mode='nearest')
            outs[i] = self.lateral_combine_conv[i](self.lateral_combine[i]([outs[i], above]))
        for i in range(last):
            incoming = [_downsample(outs[i]), outs[i + 1]]
            if i + 1 < last:  # the coarsest level is its lateral, unchanged by the top-down pass
                incoming.append(laterals[i + 1])
            outs[i + 1] = self.out_combine_conv[i](self.out_combine[i](incoming))
        return outs


@MODELS.register_module()
class BiFPN(BaseModule):
    """Bi-directional feature pyramid with 3x3 convolutions and group norm, as in the published RepPoints V2 models.

    Additional levels are max-pooled from the last input. In the first repeat, levels whose channels differ from
    ``out_channels`` have a 1x1 lateral convolution. Maps may have any size; upsampling is nearest-neighbour to the
    exact size of the finer level. Parameter names are the published ones.

    Args:
        in_channels: channels of the input maps, finest first.
        out_channels: channels of every output map.
        num_outs: number of output levels, at least that of the inputs.
        num_repeat: number of top-down and bottom-up passes.
        norm_cfg: norm after every convolution.
        init_cfg: initialiser; Xavier uniform for all convolutions by default.

    Raises:
        InputError: if there are fewer outputs than inputs, or fewer than two levels.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        num_outs: int = 5,
        num_repeat: int = 2,
        norm_cfg: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(init_cfg or {'type': 'Xavier', 'layer': 'Conv2d', 'distribution': 'uniform'})
        if num_outs < max(len(in_channels), 2):
            raise InputError(
                f'num_outs must be at least 2 and at least {len(in_channels)}, the input levels, got {num_outs}: '
                'increase num_outs or give fewer in_channels.'
            )
        norm_cfg = norm_cfg or {'type': 'GN', 'num_groups': 32, 'requires_grad': True}
        self.num_outs = num_outs
        first = [*in_channels, *[in_channels[-1]] * (num_outs - len(in_channels))]
        later = [out_channels] * num_outs
        self.bi_fpn = nn.ModuleList(
            BiFPNLayer(later if repeat else first, out_channels, norm_cfg) for repeat in range(num_repeat)
        )

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Convert maps ``[B, in_channels[i], H_i, W_i]`` to ``num_outs`` maps ``[B, out_channels, ...]``."""
        maps = list(inputs)
        while len(maps) < self.num_outs:
            maps.append(_downsample(maps[-1]))
        for layer in self.bi_fpn:
            maps = layer(maps)
        return tuple(maps)
