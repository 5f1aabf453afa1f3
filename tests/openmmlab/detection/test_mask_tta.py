"""Test-time augmentation of detectors, for cases with a known result."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from mmcv.ops import nms
from mmengine.config import Config, ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

from swin_backbone.datasets.shapes import ShapesSpec, write_shapes
from swin_backbone.engine.tta import use_tta
from swin_backbone.errors import InputError
from swin_backbone.openmmlab.detection.tta import MERGES, PROPOSALS, InstanceTTAModel, split_views, vote_masks
from swin_backbone.openmmlab.detection.views import move_boxes, unflip_masks
from tests.conftest import REPOSITORY
from tests.demo_models import DETECTION, batches, build_model, demo_config, predict, read_config

NMS = dict(type='nms', iou_threshold=0.5)
SOFT_NMS = dict(type='soft_nms', iou_threshold=0.5)


@pytest.fixture(scope='module')
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('data') / 'shapes'
    write_shapes(root, ShapesSpec(train_count=1, val_count=2))
    return root


def cascade(config: Config) -> None:
    """Keep the detector of the demo."""


def mask_rcnn(config: Config) -> None:
    model = config.model
    model.type, head = 'MaskRCNN', model.roi_head
    model.roi_head = dict(
        type='StandardRoIHead',
        bbox_roi_extractor=head.bbox_roi_extractor,
        bbox_head=head.bbox_head[0],
        mask_roi_extractor=head.mask_roi_extractor,
        mask_head=head.mask_head,
    )
    model.train_cfg = None


def htc(config: Config) -> None:
    head = config.model.roi_head
    config.model.type, head.type, head.interleaved, head.mask_info_flow = (
        'HybridTaskCascade',
        'HybridTaskCascadeRoIHead',
        True,
        True,
    )
    head.mask_head = [dict(head.mask_head, type='HTCMaskHead', with_conv_res=stage > 0) for stage in range(3)]
    layer = dict(type='RoIAlign', output_size=14, sampling_ratio=0)
    head.semantic_roi_extractor = dict(type='SingleRoIExtractor', roi_layer=layer, out_channels=64, featmap_strides=[8])
    head.semantic_head = dict(
        type='FusedSemanticHead',
        num_ins=5,
        fusion_level=1,
        num_convs=1,
        in_channels=64,
        conv_out_channels=64,
        num_classes=5,
    )


def boxes_only(config: Config) -> None:
    config.model.type = 'CascadeRCNN'
    config.model.roi_head.pop('mask_head')
    config.model.roi_head.pop('mask_roi_extractor')


def atss(config: Config) -> None:
    model = config.model
    stock = copy.deepcopy(read_config(REPOSITORY / 'configs/detection/atss_swin_t_3x.py').model)
    for part in ('rpn_head', 'roi_head'):
        model.pop(part)
    model.type, model.train_cfg, model.test_cfg = 'ATSS', None, stock.test_cfg
    model.neck = dict(stock.neck, in_channels=[32, 64, 128], out_channels=64)
    model.backbone.out_indices = (1, 2, 3)
    model.bbox_head = dict(stock.bbox_head, num_classes=6, in_channels=64, feat_channels=64, stacked_convs=1)
    model.test_cfg.score_thr = 0.0


def sparse_rcnn(config: Config) -> None:
    stock = copy.deepcopy(read_config(REPOSITORY / 'configs/detection/sparse_rcnn_swin_t_3x.py').model)
    model = config.model
    heads = [
        dict(head, num_classes=6, in_channels=64, feedforward_channels=64) for head in stock.roi_head.bbox_head[:2]
    ]
    for head in heads:
        head['dynamic_conv_cfg'] = dict(head['dynamic_conv_cfg'], in_channels=64, feat_channels=16, out_channels=64)
    model.type, model.train_cfg, model.test_cfg = 'SparseRCNN', None, stock.test_cfg
    model.neck.num_outs = 4
    model.rpn_head = dict(stock.rpn_head, num_proposals=20, proposal_feature_channel=64)
    model.roi_head = dict(stock.roi_head, num_stages=2, stage_loss_weights=[1, 1], proposal_feature_channel=64)
    model.roi_head.bbox_head = heads
    model.roi_head.bbox_roi_extractor = dict(stock.roi_head.bbox_roi_extractor, out_channels=64)
    model.test_cfg.rcnn.max_per_img = 15


def build_config(change: Callable[[Config], None], root: Path, nms: dict[str, Any] | None, size: int = 128) -> Config:
    config = demo_config(DETECTION, root, size)
    # Few candidates, because every one needs a mask.
    config.model.test_cfg.rpn.max_per_img, config.model.test_cfg.rcnn.max_per_img = 25, 30
    change(config)
    settings = config.model.test_cfg.get('rcnn') or config.model.test_cfg
    if nms is not None:
        settings.nms = ConfigDict(nms)
    return config


def assert_same(one: list[Any], other: list[Any]) -> None:
    assert sum(len(sample.pred_instances) for sample in one) > 10
    for ours, reference in zip(one, other, strict=True):
        assert set(ours.pred_instances.keys()) == set(reference.pred_instances.keys())
        for name, value in ours.pred_instances.items():
            assert torch.equal(value, reference.pred_instances[name]), name


@pytest.mark.parametrize(
    ('detector', 'nms'),
    [
        (cascade, NMS),
        (cascade, SOFT_NMS),
        (mask_rcnn, NMS),
        (htc, SOFT_NMS),
        (boxes_only, NMS),
        (boxes_only, SOFT_NMS),
        (atss, NMS),
        (atss, SOFT_NMS),
        (sparse_rcnn, None),
    ],
)
def test_one_view_equals_a_normal_test(
    detector: Callable[[Config], None], nms: dict[str, Any] | None, shapes: Path
) -> None:
    size = 160  # differs from the size of the images, so that errors in coordinates are visible
    plain = predict(build_config(detector, shapes, nms, size))
    config = build_config(detector, shapes, nms, size)
    assert use_tta(config, factors=(1.0,), flips=(False,)) == 1
    assert_same(plain, predict(config))


@pytest.mark.parametrize(
    ('detector', 'nms'), [(cascade, SOFT_NMS), (mask_rcnn, NMS), (htc, SOFT_NMS), (boxes_only, NMS)]
)
def test_one_view_with_merged_proposals_equals_a_normal_test(
    detector: Callable[[Config], None], nms: dict[str, Any], shapes: Path
) -> None:
    plain = predict(build_config(detector, shapes, nms, 160))
    config = build_config(detector, shapes, nms, 160)
    config.tta_merge = PROPOSALS
    use_tta(config, factors=(1.0,), flips=(False,))
    assert_same(plain, predict(config))


@torch.no_grad()
@pytest.mark.parametrize('detector', [mask_rcnn, boxes_only])
def test_merged_proposals_are_scored_in_every_view(detector: Callable[[Config], None], shapes: Path) -> None:
    """The reference loops over the views with parts of the detector, without the final NMS and its limit."""
    config = build_config(detector, shapes, dict(type='nms', iou_threshold=1.0))
    config.model.test_cfg.rcnn.update(max_per_img=10_000, score_thr=0.0)
    config.tta_merge = PROPOSALS
    use_tta(config, factors=(1.0,), flips=(False, True))
    model = build_model(config)
    (batch,) = batches(config, 1)[:1]
    found = model.test_step(batch)[0].pred_instances
    plain, flipped = (model.run_view(view) for view in split_views(batch))
    width = plain.metas[0]['img_shape'][1]
    boxes = torch.cat([plain.proposals[0].bboxes, mirror(flipped.proposals[0].bboxes, width)])
    scores = torch.cat([view.proposals[0].scores for view in (plain, flipped)])
    kept = nms(boxes, scores, 0.7)[1][:25]
    results = []
    for view, own in ((plain, boxes[kept]), (flipped, mirror(boxes[kept], width))):
        proposals = [InstanceData(bboxes=own)]
        head = model.module.roi_head
        results.append(head.predict_bbox(view.features, view.metas, proposals, rcnn_test_cfg=None)[0])
    mean = (results[0].scores + results[1].scores)[:, :-1] / 2
    places = (results[0].bboxes + mirror(results[1].bboxes.reshape(-1, 4), width).reshape(results[1].bboxes.shape)) / 2
    assert len(found) == mean.numel()
    torch.testing.assert_close(found.scores, mean.flatten().sort(descending=True).values)
    best = mean.max(dim=1).values.argmax()
    torch.testing.assert_close(found.bboxes[0], places[best].reshape(-1, 4)[found.labels[0] % (places.shape[1] // 4)])


def mirror(boxes: Tensor, width: int) -> Tensor:
    return torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], dim=1)


@pytest.mark.parametrize(
    ('detector', 'merge', 'message'),
    [
        (cascade, 'boxes', "tta_merge must be candidates or proposals, got 'boxes'"),
        (atss, PROPOSALS, 'needs a two-stage detector'),
        (sparse_rcnn, PROPOSALS, 'needs a two-stage detector'),
    ],
)
def test_unsupported_merges_raise_input_error(
    detector: Callable[[Config], None], merge: str, message: str, shapes: Path
) -> None:
    config = build_config(detector, shapes, None)
    config.tta_merge = merge
    use_tta(config)
    with pytest.raises(InputError, match=message):
        build_model(config)


@pytest.mark.parametrize('detector', [cascade, boxes_only])
def test_repeated_view_changes_nothing(detector: Callable[[Config], None], shapes: Path) -> None:
    config = build_config(detector, shapes, NMS)
    config.model.test_cfg.rcnn.max_per_img = 1000
    plain = predict(config)
    assert use_tta(config, factors=(1.0, 1.0), flips=(False,)) == 2
    assert_same(plain, predict(config))


@pytest.mark.parametrize(
    ('detector', 'merge'),
    [
        *((detector, None) for detector in (mask_rcnn, htc, boxes_only, atss)),
        *((detector, PROPOSALS) for detector in (mask_rcnn, htc, boxes_only)),
    ],
)
def test_flipped_view_equals_a_test_of_the_flipped_image(
    detector: Callable[[Config], None], merge: str | None, shapes: Path, tmp_path: Path
) -> None:
    mirrored = tmp_path / 'mirrored'
    (mirrored / 'val2017').mkdir(parents=True)
    (mirrored / 'annotations').symlink_to(shapes / 'annotations')
    for path in sorted((shapes / 'val2017').iterdir()):
        cv2.imwrite(str(mirrored / 'val2017' / path.stem) + '.png', cv2.imread(str(path))[:, ::-1])
        (mirrored / 'val2017' / f'{path.stem}.png').rename(mirrored / 'val2017' / path.name)
    straight = predict(build_config(detector, mirrored, NMS))
    config = build_config(detector, shapes, NMS)
    config.tta_merge = merge
    use_tta(config, factors=(1.0,), flips=(True,))
    for expected, found in zip(straight, predict(config), strict=True):
        expected, found = expected.pred_instances, found.pred_instances
        assert torch.equal(expected.labels, found.labels) and torch.allclose(expected.scores, found.scores)
        boxes = expected.bboxes[:, [2, 1, 0, 3]] * torch.tensor([-1.0, 1.0, -1.0, 1.0]) + torch.tensor(
            [128.0, 0, 128, 0]
        )
        torch.testing.assert_close(found.bboxes, boxes, atol=1e-3, rtol=0)
        if 'masks' in found:
            assert (expected.masks.flip(-1) == found.masks).float().mean() > 0.999


@pytest.mark.parametrize(
    ('detector', 'merge'),
    [
        *((detector, MERGES[0]) for detector in (cascade, htc, boxes_only, atss, sparse_rcnn)),
        *((detector, PROPOSALS) for detector in (cascade, htc, boxes_only)),
    ],
)
def test_merged_boxes_are_within_the_image_and_the_limit(
    detector: Callable[[Config], None], merge: str, shapes: Path
) -> None:
    config = build_config(detector, shapes, None)
    config.tta_merge = merge
    settings = config.model.test_cfg.get('rcnn') or config.model.test_cfg
    settings.max_per_img = limit = 12
    assert use_tta(config, factors=(0.75, 1.5)) == 4
    for sample in predict(config):
        found = sample.pred_instances
        assert len(found) == limit and (found.scores.diff() <= 0).all()
        # Sparse R-CNN does not clip its boxes, with any number of views.
        inside = found.bboxes.min() >= -0.01 and found.bboxes.max() <= 128.01
        assert inside or detector is sparse_rcnn
        if 'masks' in found:
            assert found.masks.shape == (limit, 128, 128) and found.masks.dtype == torch.bool
        assert 'bboxes' in sample.gt_instances and not sample.metainfo['flip']


def test_move_boxes_between_views_is_invertible() -> None:
    boxes = torch.tensor([[10.0, 20.0, 40.0, 60.0]])
    small = dict(img_shape=(50, 100), scale_factor=(0.5, 0.25), flip=False, flip_direction=None)
    large = dict(img_shape=(400, 300), scale_factor=(1.5, 2.0), flip=True, flip_direction='horizontal')
    assert move_boxes(boxes, small, small) is boxes
    moved = move_boxes(boxes, small, large)
    torch.testing.assert_close(moved, torch.tensor([[300 - 120.0, 160.0, 300 - 30.0, 480.0]]))
    torch.testing.assert_close(move_boxes(moved, large, small), boxes)
    upside = dict(large, flip_direction='vertical')
    torch.testing.assert_close(move_boxes(boxes, small, upside)[0, [1, 3]], torch.tensor([400 - 480.0, 400 - 160.0]))


@pytest.mark.parametrize(
    ('direction', 'place'), [('horizontal', (0, 0, 1)), ('vertical', (0, 1, 0)), ('diagonal', (0, 1, 1))]
)
def test_unflip_masks_undoes_every_flip(direction: str, place: tuple[int, int, int]) -> None:
    masks = torch.tensor([[[1, 0], [0, 0]]])
    assert unflip_masks(masks, dict(flip=True, flip_direction=direction))[place] == 1
    assert unflip_masks(masks, dict(flip=False, flip_direction=None)) is masks


def test_suppress_applies_the_given_nms() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]])
    candidates = InstanceData(bboxes=boxes, scores=torch.tensor([0.9, 0.8, 0.7]), labels=torch.tensor([0, 0, 0]))
    model = InstanceTTAModel(torch.nn.Module.__new__(Steps))
    hard = model.suppress(candidates, dict(nms=NMS, max_per_img=100))
    assert hard.scores.tolist() == pytest.approx([0.9, 0.7])
    soft = model.suppress(candidates, dict(nms=SOFT_NMS, max_per_img=100))
    # Linear decay by 1 - IoU, where the IoU of the first two is 0.9.
    assert soft.scores.tolist() == pytest.approx([0.9, 0.7, 0.08])
    assert len(model.suppress(candidates, dict(nms=SOFT_NMS, max_per_img=2))) == 2
    other_class = candidates.clone()
    other_class.labels = torch.tensor([0, 1, 0])
    assert len(model.suppress(other_class, dict(max_per_img=100))) == 3


class Steps(torch.nn.Module):
    """The methods that a TTA model needs of its model."""

    def __init__(self) -> None:
        super().__init__()

    def test_step(self, data: Any) -> list[Any]:
        return []


def test_vote_masks_keeps_the_majority() -> None:
    def instances(boxes: list[list[float]], labels: list[int], masks: torch.Tensor) -> InstanceData:
        return InstanceData(bboxes=torch.tensor(boxes), labels=torch.tensor(labels), masks=masks)

    full, left, none = (
        torch.ones(1, 2, 2).bool(),
        torch.tensor([[[True, False], [True, False]]]),
        torch.zeros(1, 2, 2).bool(),
    )
    first = instances([[0.0, 0, 2, 2]], [1], full)
    second = instances([[0.0, 0, 2, 2]], [1], left)
    third = instances([[0.0, 0, 2, 2]], [1], none)
    other = instances([[0.0, 0, 2, 2]], [0], none)
    away = instances([[5.0, 5, 9, 9]], [1], none)
    assert torch.equal(vote_masks(first, [first]), full)
    assert torch.equal(vote_masks(first, [first, second, third]), left)
    assert torch.equal(vote_masks(first, [first, other, away]), full)
