"""Corner features and snapping compared with loops over cells."""

import pytest
import torch
from torch import Tensor

from tests.helpers import randomize

pytest.importorskip('mmdet')

from swin_backbone.openmmlab.detection.reppoints_v2.corner import (
    CornerFeature,
    snap_boxes,
    snap_corners,
    snapping_level,
)

NORM = dict(type='GN', num_groups=4)


def pooled(x: Tensor, direction: str) -> Tensor:
    """Compute the maximum from each cell on: towards the bottom for 'top', towards the right for 'left'."""
    out = torch.empty_like(x)
    for i in range(x.shape[-2]):
        for j in range(x.shape[-1]):
            seen = {
                'top': x[..., i:, j],
                'bottom': x[..., : i + 1, j],
                'left': x[..., i, j:],
                'right': x[..., i, : j + 1],
            }[direction]
            out[..., i, j] = seen.amax(dim=-1)
    return out


@torch.no_grad()
@pytest.mark.parametrize('directions', [('top', 'left'), ('bottom', 'right')])
def test_corner_feature_equals_loops(directions: tuple[str, str]) -> None:
    module = randomize(CornerFeature(8, 4, directions, NORM))
    x = torch.randn(2, 8, 5, 6)
    first = pooled(module.p1_conv1(x), directions[0])
    second = pooled(module.p2_conv1(x), directions[1])
    both = module.p_gn1(module.p_conv1(first + second)) + module.gn1(module.conv1(x))
    torch.testing.assert_close(module(x), module.conv2(both.clamp(min=0)))


def test_corner_feature_has_the_default_initialisation_of_torch() -> None:
    module = CornerFeature(16, 8, ('top', 'left'), NORM)
    with torch.no_grad():
        module.p_conv1.weight.zero_()
    module.init_weights()
    bound = (1 / (8 * 9)) ** 0.5
    assert 0.9 * bound < module.p_conv1.weight.abs().max() <= bound


def snapped(corner: tuple[float, float], scores: Tensor, offsets: Tensor, stride: int) -> list[float]:
    height, width = scores.shape
    left = min(max(int(corner[0] / stride), 0), max(width - 2, 0))
    top = min(max(int(corner[1] / stride), 0), max(height - 2, 0))
    best = None
    for i in range(top, min(top + 2, height)):
        for j in range(left, min(left + 2, width)):
            if best is None or scores[i, j] > scores[best]:
                best = (i, j)
    row, column = best
    return [(column + offsets[0, row, column].item()) * stride, (row + offsets[1, row, column].item()) * stride]


@pytest.mark.parametrize('size', [(6, 9), (1, 5), (4, 1), (1, 1), (2, 2)])
def test_snap_corners_equals_loops(size: tuple[int, int]) -> None:
    scores, offsets = torch.randn(size), torch.randn(2, *size)
    corners = torch.rand(200, 2) * torch.tensor([size[1] * 8.0, size[0] * 8.0])
    corners[:2] = torch.tensor([[0.0, 0.0], [size[1] * 8.0, size[0] * 8.0]])
    plain = torch.tensor([snapped(tuple(corner.tolist()), scores, offsets, 8) for corner in corners])
    torch.testing.assert_close(snap_corners(corners, scores, offsets, 8), plain)


def test_snap_boxes_uses_the_maps_of_each_corner() -> None:
    scores, offsets = torch.zeros(2, 4, 4), torch.zeros(4, 4, 4)
    scores[0, 1, 1] = 1  # a top-left corner at cell (1, 1), a bottom-right corner at cell (row 3, column 2)
    scores[1, 3, 2] = 1
    offsets[:2, 1, 1] = torch.tensor([0.25, -0.5])
    offsets[2:, 3, 2] = torch.tensor([0.5, 0.125])
    boxes = torch.tensor([[15.0, 4.0, 19.0, 22.0]])
    assert snap_boxes(boxes, scores, offsets, 8).tolist() == [[10.0, 4.0, 20.0, 25.0]]


def test_snap_boxes_supports_no_boxes() -> None:
    assert snap_boxes(torch.zeros(0, 4), torch.zeros(2, 3, 3), torch.zeros(4, 3, 3), 8).shape == (0, 4)


def test_snapping_level_is_a_finer_level() -> None:
    assert [snapping_level(level) for level in range(5)] == [None, 0, 0, 1, 1]
