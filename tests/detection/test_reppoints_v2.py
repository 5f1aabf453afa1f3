"""The whole detector, built from its config on a small backbone, and its answers against loops."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip('mmdet')

from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_overlaps
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from swin_backbone.detection.reppoints_v2.corner import snap_corners
from swin_backbone.detection.reppoints_v2.head import points_to_boxes
from tests.helpers import TINY, randomize

CONFIG = Path(__file__).resolve().parents[2] / 'configs/detection/_base_/reppoints_v2.py'
LOSSES = ['loss_cls', 'loss_heatmap', 'loss_offset', 'loss_pts_init', 'loss_pts_refine', 'loss_sem']


def model_config(**head: Any) -> ConfigDict:
    """The config's model with little of everything."""
    model = Config.fromfile(CONFIG).model
    model.backbone = dict(type='swin_backbone.SwinTransformer', out_indices=(1, 2, 3), **TINY)
    model.neck.update(in_channels=[32, 64, 128], out_channels=32, norm_cfg=dict(type='GN', num_groups=4))
    small = dict(in_channels=32, feat_channels=32, point_feat_channels=32, corner_dim=16, num_classes=3)
    model.bbox_head.update(norm_cfg=dict(type='GN', num_groups=4), **{**small, **head})
    return model


def build(model: ConfigDict) -> Any:
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(model)


def sample(boxes: list[list[float]], ignored: list[list[float]] | None = None) -> DetDataSample:
    data = DetDataSample()
    labels = torch.arange(len(boxes)) % 3
    data.gt_instances = InstanceData(bboxes=torch.tensor(boxes).view(-1, 4), labels=labels)
    crowd = torch.tensor(ignored or []).view(-1, 4)
    data.ignored_instances = InstanceData(bboxes=crowd, labels=torch.zeros(len(crowd), dtype=torch.long))
    return data


def batch(sizes: list[tuple[int, int]], samples: list[DetDataSample]) -> dict[str, Any]:
    """Images of the given sizes, as a data loader hands them on."""
    for (height, width), data in zip(sizes, samples, strict=True):
        scale = dict(scale_factor=(0.5, 0.5), ori_shape=(2 * height, 2 * width))
        data.set_metainfo(dict(img_shape=(height, width), **scale))
    inputs = [torch.randint(256, (3, *size), dtype=torch.uint8) for size in sizes]
    return dict(inputs=inputs, data_samples=samples)


def three_images() -> dict[str, Any]:
    """One with objects and a crowd, one without anything, one with a single object that touches its border."""
    samples = [
        sample([[3.0, 5.0, 40.0, 50.0], [30.0, 8.0, 63.0, 60.0], [8.0, 8.0, 16.0, 14.0]], [[0.0, 0.0, 20.0, 64.0]]),
        sample([]),
        sample([[0.0, 0.0, 70.0, 33.0]]),
    ]
    return batch([(64, 64), (50, 90), (33, 70)], samples)


def run(model: Any, data: dict[str, Any], mode: str) -> Any:
    data = model.data_preprocessor(data, training=mode == 'loss')
    return model(data['inputs'], data['data_samples'], mode=mode)


def test_parameters_agree_with_the_paper() -> None:
    config = Config.fromfile(CONFIG).model
    config.backbone.init_cfg = None
    with torch.device('meta'):
        neck, head = build(config.neck), build(config.bbox_head)
        backbone = build(config.backbone)
    # The Swin paper, Table 2a: 42M with ResNet-50.
    assert sum(p.numel() for part in (backbone, neck, head) for p in part.parameters()) == 42_132_528
    config.neck.in_channels = [192, 384, 768]
    with torch.device('meta'):
        neck = build(config.neck)
    # 45M with Swin-T, whose three output maps have 27,520,506 parameters under them.
    assert sum(p.numel() for part in (neck, head) for p in part.parameters()) + 27_520_506 == 44_916_202


@pytest.mark.parametrize('mixed', [False, True])
def test_a_training_step_reaches_every_parameter(mixed: bool) -> None:
    model = build(model_config()).train()
    model.init_weights()
    with torch.autocast('cpu', dtype=torch.bfloat16, enabled=mixed):
        losses = run(model, three_images(), 'loss')
    assert sorted(losses) == LOSSES
    total = sum(losses.values())
    assert total.isfinite()
    assert total.dtype == torch.float32
    total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_no_objects_at_all() -> None:
    model = build(model_config()).train()
    losses = run(model, batch([(64, 64), (40, 48)], [sample([]), sample([])]), 'loss')
    assert losses['loss_pts_init'] == losses['loss_pts_refine'] == losses['loss_offset'] == 0
    assert losses['loss_cls'] > 0
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name  # or distributed training would wait for ever
        assert parameter.grad.isfinite().all(), name


def test_cells_outside_an_image_take_no_part() -> None:
    """Images of one batch have one canvas; what is predicted beyond an image's own padding is of no account."""
    head = build(model_config()).bbox_head
    sizes = [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]
    outputs = random_outputs(sizes, images=2)
    gts = [sample([[3.0, 5.0, 90.0, 50.0]]).gt_instances, sample([[3.0, 5.0, 30.0, 30.0]]).gt_instances]
    metas = [dict(pad_shape=(64, 96)), dict(pad_shape=(32, 32))]
    torch.manual_seed(1)  # small levels repeat random cells
    before = head.loss_by_feat(*outputs, gts, metas)
    for kind in outputs[:5]:
        for level, (height, width) in zip(kind, sizes, strict=True):
            level[1, :, -(-height // 2) :] = 7.0
            level[1, :, :, -(-width // 3) :] = -7.0
    torch.manual_seed(1)
    after = head.loss_by_feat(*outputs, gts, metas)
    for name in LOSSES:
        torch.testing.assert_close(before[name], after[name])


def test_initial_probabilities() -> None:
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


def test_gradient_through_the_sampling_places() -> None:
    """The first points hear of the deformable convolutions through a tenth of the gradient, and of nothing else."""
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
def test_points_start_at_the_cell_itself() -> None:
    """With all points at (0, 0) the deformable convolution sees one cell nine times."""
    head = build(model_config()).bbox_head
    head.reppoints_pts_init_out.weight.zero_()
    head.reppoints_pts_init_out.bias.zero_()
    features = torch.randn(1, 38, 4, 6)
    scores, first, _ = head._points(torch.zeros(1, 32, 4, 6), features, features)
    pointwise = head.reppoints_cls_conv.weight.sum((2, 3), keepdim=True)
    expected = head.reppoints_cls_out(torch.nn.functional.conv2d(features, pointwise).relu())
    assert not first.any()
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)


def test_decode() -> None:
    offsets = torch.randn(2, 3, 18)
    points = torch.tensor([[0.0, 8.0, 8.0, 8.0], [32.0, 16.0, 16.0, 16.0], [0.0, 0.0, 128.0, 128.0]])
    boxes = points_to_boxes(offsets, points)
    for b in range(2):
        for n, (x, y, stride, _) in enumerate(points.tolist()):
            y1, x1, y2, x2 = offsets[b, n, :4].tolist()
            plain = [x + x1 * stride, y + y1 * stride, x + x2 * stride, y + y2 * stride]
            torch.testing.assert_close(boxes[b, n], torch.tensor(plain))


def random_outputs(sizes: list[tuple[int, int]], images: int) -> list[list[Tensor]]:
    """Outputs of a head that has boxes to show: points 0 and 1 lie apart, scores differ."""
    channels = (3, 18, 18, 2, 4, 3)
    outputs = [[torch.randn(images, c, *size) for size in sizes] for c in channels]
    for level in outputs[2]:
        level[:, :4] = level[:, :4] + torch.tensor([-1.5, -1.5, 1.5, 1.5]).view(1, 4, 1, 1)
    return outputs


def plain_detections(outputs: list[list[Tensor]], i: int, size: tuple[int, int], cfg: dict[str, Any]) -> list[Any]:
    """Candidates of one image before overlapping boxes are removed."""
    scores, _, refined, heat, offsets, _ = outputs
    strides = [8, 16, 32, 64, 128]
    candidates = []
    for level, stride in enumerate(strides):
        cells = []
        height, width = scores[level].shape[-2:]
        for row in range(height):
            for column in range(width):
                probabilities = scores[level][i, :, row, column].sigmoid()
                cells.append((probabilities.max().item(), row, column, probabilities.tolist()))
        cells.sort(key=lambda cell: -cell[0])
        for _, row, column, probabilities in cells[: cfg['nms_pre']]:
            y1, x1, y2, x2 = refined[level][i, :4, row, column].tolist()
            box = [column * stride + x1 * stride, row * stride + y1 * stride]
            box += [column * stride + x2 * stride, row * stride + y2 * stride]
            box = [min(max(value, 0), size[1 - axis % 2]) for axis, value in enumerate(box)]
            if level > 0:
                source = 0 if level < 3 else 1
                maps = heat[source][i], offsets[source][i]
                first = snap_corners(torch.tensor([box[:2]]), maps[0][0], maps[1][:2], strides[source])[0].tolist()
                last = snap_corners(torch.tensor([box[2:]]), maps[0][1], maps[1][2:], strides[source])[0].tolist()
                box = [min(max(value, 0), size[1 - axis % 2]) for axis, value in enumerate(first + last)]
            for label, probability in enumerate(probabilities):
                if probability > cfg['score_thr']:
                    candidates.append((box, probability, label))
    return candidates


def plain_nms(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float) -> list[int]:
    """Numbers of the boxes that no better box of their class overlaps too much, best first."""
    kept: list[int] = []
    for n in scores.argsort(descending=True).tolist():
        ious = bbox_overlaps(boxes[n][None], boxes[kept])[0][labels[kept] == labels[n]]
        if not (ious > threshold).any():
            kept.append(n)
    return kept


def test_prediction() -> None:
    head = build(model_config()).bbox_head
    head.test_cfg.update(nms_pre=7, score_thr=0.3, max_per_img=40)
    outputs = random_outputs([(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)], images=2)
    metas = [dict(img_shape=(60, 96), scale_factor=(0.5, 0.25)), dict(img_shape=(64, 80), scale_factor=(0.5, 0.25))]
    results = head.predict_by_feat(*outputs, batch_img_metas=metas, rescale=True)
    for i, (meta, found) in enumerate(zip(metas, results, strict=True)):
        candidates = plain_detections(outputs, i, meta['img_shape'], head.test_cfg)
        candidates = [c for c in candidates if c[0][2] > c[0][0] and c[0][3] > c[0][1]]
        boxes = torch.tensor([c[0] for c in candidates]) * torch.tensor([2.0, 4.0, 2.0, 4.0])
        scores, labels = torch.tensor([c[1] for c in candidates]), torch.tensor([c[2] for c in candidates])
        kept = plain_nms(boxes, scores, labels, 0.6)[:40]
        assert len(kept) > 10
        torch.testing.assert_close(found.scores, scores[kept])
        torch.testing.assert_close(found.bboxes, boxes[kept])
        assert torch.equal(found.labels, labels[kept])


@torch.no_grad()
@pytest.mark.parametrize('mixed', [False, True])
def test_the_detector_answers(mixed: bool) -> None:
    model = randomize(build(model_config())).eval()
    model.bbox_head.test_cfg.score_thr = 0.0
    with torch.autocast('cpu', dtype=torch.bfloat16, enabled=mixed):
        for size in [(64, 96), (1, 1), (7, 200)]:
            (answer,) = run(model, batch([size], [sample([])]), 'predict')
            found = answer.pred_instances
            assert len(found) <= 100
            assert found.bboxes.isfinite().all()
            assert (found.bboxes[:, 2:] <= torch.tensor([2.0 * size[1], 2.0 * size[0]])).all()
            assert size == (1, 1) or len(found) > 0


@torch.no_grad()
def test_nothing_to_see() -> None:
    model = build(model_config()).eval()
    model.bbox_head.test_cfg.score_thr = 1.0
    (answer,) = run(model, batch([(64, 64)], [sample([])]), 'predict')
    assert len(answer.pred_instances) == 0
    assert answer.pred_instances.bboxes.shape == (0, 4)
