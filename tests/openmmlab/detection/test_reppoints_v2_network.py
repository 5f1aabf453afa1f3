"""The head's layers compared with an explicit computation, and their initialisation."""

import math

import pytest
import torch
from torch import Tensor

pytest.importorskip('mmdet')

from tests.helpers import randomize
from tests.openmmlab.detection.reppoints_v2_model import build, model_config


def sampled(features: Tensor, places: Tensor, weight: Tensor) -> Tensor:
    """Compute a 3x3 convolution whose nine inputs are interpolated at offsets ``places`` (y, x) from the centre."""
    height, width = features.shape[-2:]
    out = torch.zeros(weight.shape[0], height, width)
    for row in range(height):
        for column in range(width):
            for tap in range(9):
                y, x = places[2 * tap : 2 * tap + 2, row, column].tolist()
                y, x = row + y, column + x
                value = torch.zeros(weight.shape[1])
                for i in (math.floor(y), math.floor(y) + 1):
                    for j in (math.floor(x), math.floor(x) + 1):
                        if 0 <= i < height and 0 <= j < width:
                            value += features[:, i, j] * (1 - abs(y - i)) * (1 - abs(x - j))
                out[:, row, column] += weight.flatten(2)[:, :, tap] @ value
    return out


@torch.no_grad()
def test_network_equals_its_explicit_definition() -> None:
    head = randomize(build(model_config())).bbox_head
    head.reppoints_pts_init_out.weight.mul_(0.2)
    x = torch.randn(1, 32, 4, 5)

    cls_feat = pts_feat = x
    for layer in head.cls_convs:
        cls_feat = layer(cls_feat)
    for layer in head.reg_convs:
        pts_feat = layer(pts_feat)
    shared = head.shared_convs[0](pts_feat)
    embedding = head.reppoints_sem_embedding(shared)
    top_left, bottom_right = head.hem_tl(shared + embedding), head.hem_br(shared + embedding)
    heat = [head.reppoints_hem_tl_score_out(top_left), head.reppoints_hem_br_score_out(bottom_right)]
    offset = [head.reppoints_hem_tl_offset_out(top_left), head.reppoints_hem_br_offset_out(bottom_right)]
    init = head.reppoints_pts_init_out(head.reppoints_pts_init_conv(pts_feat + embedding).clamp(min=0))
    cls_input = torch.cat((cls_feat + embedding, *heat, *offset), dim=1)[0]
    pts_input = torch.cat((pts_feat + embedding, *heat, *offset), dim=1)[0]
    cls_hidden = sampled(cls_input, init[0], head.reppoints_cls_conv.weight).clamp(min=0)
    pts_hidden = sampled(pts_input, init[0], head.reppoints_pts_refine_conv.weight).clamp(min=0)
    plain = [
        head.reppoints_cls_out(cls_hidden[None]),
        init,
        head.reppoints_pts_refine_out(pts_hidden[None]) + init,
        torch.cat(heat, dim=1),
        torch.cat(offset, dim=1),
        head.reppoints_sem_out(shared),
    ]
    for ours, expected in zip(head.forward_single(x), plain, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3)
    kinds = [(module.pool1.mode, module.pool2.mode) for module in (head.hem_tl, head.hem_br)]
    assert kinds == [('top', 'left'), ('bottom', 'right')]


def test_initial_probabilities_are_low() -> None:
    model = build(model_config())
    model.init_weights()
    head = model.bbox_head
    for layer in ('cls_out', 'hem_tl_score_out', 'hem_br_score_out', 'sem_out'):
        bias = getattr(head, f'reppoints_{layer}').bias
        torch.testing.assert_close(bias.sigmoid(), torch.full_like(bias, 0.01))
    for name, parameter in head.named_parameters():
        normal = name.endswith('weight') and parameter.dim() == 4 and not name.startswith(('hem_', 'reppoints_sem_emb'))
        assert not normal or 0.005 < parameter.std() < 0.02, name
        assert not name.endswith('offset_out.bias') or not parameter.any(), name


def test_gradient_mul_scales_the_gradient_through_sampling_positions() -> None:
    """The only gradient of the first points comes through the deformable convolutions, multiplied by 0.1."""
    head = build(model_config()).bbox_head
    hidden, features = torch.randn(1, 32, 5, 5), torch.randn(1, 38, 5, 5)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_(std=0.1)
    weight = head.reppoints_pts_init_out.weight
    found = []
    for share in (0.1, 1.0):
        head.gradient_mul = share
        scores, _, refined = head._points(hidden, features, features)
        found.append(torch.autograd.grad((scores.sum() + refined.sum()), weight)[0])
    torch.testing.assert_close(found[0], found[1] / 10, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_points_at_zero_sample_the_cell_itself() -> None:
    """With all points at (0, 0), the deformable convolution samples one cell nine times."""
    head = build(model_config()).bbox_head
    head.reppoints_pts_init_out.weight.zero_()
    head.reppoints_pts_init_out.bias.zero_()
    features = torch.randn(1, 38, 4, 6)
    scores, first, _ = head._points(torch.zeros(1, 32, 4, 6), features, features)
    pointwise = head.reppoints_cls_conv.weight.sum((2, 3), keepdim=True)
    expected = head.reppoints_cls_out(torch.nn.functional.conv2d(features, pointwise).relu())
    assert not first.any()
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)
