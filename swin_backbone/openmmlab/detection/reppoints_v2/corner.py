"""Corner verification: corner-pooled features, and snapping of boxes to verified corners.

Source: RepPoints V2 paper, section 3.2 (corner points), and CornerNet paper, section 3.2 (corner pooling).
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule, build_norm_layer
from mmcv.ops import CornerPool
from mmengine.model import BaseModule
from torch import Tensor, nn

# PyTorch's default initialisation of convolutions, which the published code uses in these modules only.
TORCH_DEFAULT_INIT = {
    'type': 'Kaiming',
    'layer': 'Conv2d',
    'a': 5**0.5,
    'mode': 'fan_in',
    'nonlinearity': 'leaky_relu',
    'distribution': 'uniform',
}


class CornerFeature(BaseModule):
    """Features pooled along the two sides that meet in a corner.

    Args:
        channels: input and output channels.
        corner_dim: channels of each pooled branch.
        directions: the two pooling directions, such as ``('top', 'left')`` for top-left corners.
        norm_cfg: norm after every convolution.
    """

    def __init__(self, channels: int, corner_dim: int, directions: Sequence[str], norm_cfg: dict[str, Any]) -> None:
        super().__init__(TORCH_DEFAULT_INIT)
        first, second = directions
        self.p1_conv1 = ConvModule(channels, corner_dim, 3, padding=1, norm_cfg=norm_cfg)
        self.p2_conv1 = ConvModule(channels, corner_dim, 3, padding=1, norm_cfg=norm_cfg)
        self.p_conv1 = nn.Conv2d(corner_dim, channels, 3, padding=1, bias=False)
        self.p_gn1 = build_norm_layer(norm_cfg, channels)[1]
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.gn1 = build_norm_layer(norm_cfg, channels)[1]
        self.conv2 = ConvModule(channels, channels, 1, norm_cfg=norm_cfg)
        self.pool1 = CornerPool(first)
        self.pool2 = CornerPool(second)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, channels, H, W]`` to the same shape."""
        pooled = self.pool1(self.p1_conv1(x)) + self.pool2(self.p2_conv1(x))
        verified = self.p_gn1(self.p_conv1(pooled)) + self.gn1(self.conv1(x))
        return self.conv2(verified.relu())


def snap_corners(corners: Tensor, scores: Tensor, offsets: Tensor, stride: int) -> Tensor:
    """Move each corner to the position predicted by the best-scored of the four cells around it.

    Args:
        corners: ``[K, 2]``, (x, y) in pixels.
        scores: ``[H, W]``, corner logits or probabilities of the cells.
        offsets: ``[2, H, W]``, from the cell to the corner, (x, y) in units of the stride.
        stride: pixels between cells.

    Returns:
        ``[K, 2]``, (x, y) in pixels.
    """
    height, width = scores.shape
    # The block of 2x2 cells whose first cell is left of and above the corner, clamped to the map.
    left = (corners[:, 0] / stride).floor().long().clamp(0, max(width - 2, 0))
    top = (corners[:, 1] / stride).floor().long().clamp(0, max(height - 2, 0))
    steps = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]], device=corners.device)
    rows = (top[:, None] + steps[:, 0]).clamp(max=height - 1)
    columns = (left[:, None] + steps[:, 1]).clamp(max=width - 1)
    best = scores[rows, columns].argmax(dim=1, keepdim=True)
    row, column = rows.gather(1, best).squeeze(1), columns.gather(1, best).squeeze(1)
    cell = torch.stack((column, row), dim=1).to(offsets.dtype)
    return (cell + offsets[:, row, column].t()) * stride


def snap_boxes(boxes: Tensor, scores: Tensor, offsets: Tensor, stride: int) -> Tensor:
    """Snap both corners of boxes to verified corners; their scores do not change.

    Args:
        boxes: ``[K, 4]``, (x1, y1, x2, y2) in pixels.
        scores: ``[2, H, W]``, for top-left and bottom-right corners.
        offsets: ``[4, H, W]``, (x, y) for top-left, then for bottom-right corners.
        stride: pixels between cells.

    Returns:
        ``[K, 4]``, (x1, y1, x2, y2) in pixels.
    """
    top_left = snap_corners(boxes[:, :2], scores[0], offsets[:2], stride)
    bottom_right = snap_corners(boxes[:, 2:], scores[1], offsets[2:], stride)
    return torch.cat((top_left, bottom_right), dim=1)


def snapping_level(level: int) -> int | None:
    """Return the pyramid level whose heat maps verify boxes of ``level``, or None if they are not verified.

    With P3 as level 0: P4 and P5 use P3, P6 and P7 use P4; boxes of P3, the finest level, are not verified.
    """
    return None if level == 0 else (level - 1) // 2
