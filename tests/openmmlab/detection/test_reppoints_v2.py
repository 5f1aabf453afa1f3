"""The whole detector, built from its config on a small backbone."""

from typing import Any

import pytest
import torch

pytest.importorskip('mmdet')

from mmengine.config import Config
from mmengine.structures import InstanceData

from swin_backbone.openmmlab.detection.reppoints_v2.head import points_to_boxes
from tests.helpers import randomize
from tests.openmmlab.detection.reppoints_v2_model import (
    CONFIG,
    batch,
    build,
    model_config,
    random_outputs,
    run,
    sample,
    three_images,
)

LOSSES = ['loss_cls', 'loss_heatmap', 'loss_offset', 'loss_pts_init', 'loss_pts_refine', 'loss_sem']


def test_parameter_counts_equal_the_paper() -> None:
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
def test_training_step_reaches_every_parameter(mixed: bool) -> None:
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


def test_training_without_objects_reaches_every_parameter() -> None:
    model = build(model_config()).train()
    losses = run(model, batch([(64, 64), (40, 48)], [sample([]), sample([])]), 'loss')
    assert losses['loss_pts_init'] == losses['loss_pts_refine'] == losses['loss_offset'] == 0
    assert losses['loss_cls'] > 0
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name  # otherwise distributed training would hang
        assert parameter.grad.isfinite().all(), name


def test_cells_outside_an_image_do_not_affect_losses() -> None:
    """Images of a batch are padded to one size; predictions outside of an image's own padding are ignored."""
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


def test_each_loss_has_gradients_of_one_output_only() -> None:
    head = build(model_config()).bbox_head
    outputs = random_outputs([(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)], images=1)
    for level in (level for kind in outputs for level in kind):
        level.requires_grad_()
    gts, metas = [sample([[3.0, 5.0, 90.0, 50.0], [20.0, 8.0, 50.0, 30.0]]).gt_instances], [dict(pad_shape=(64, 96))]
    seen = []
    assign = head.refine_assigner.assign

    def recording(pred_instances: InstanceData, **kwargs: Any) -> Any:
        seen.append(pred_instances.priors)
        return assign(pred_instances, **kwargs)

    head.refine_assigner.assign = recording
    losses = head.loss_by_feat(*outputs, gts, metas)
    order = ['loss_cls', 'loss_pts_init', 'loss_pts_refine', 'loss_heatmap', 'loss_offset', 'loss_sem']
    for number, name in enumerate(order):
        levels = [level for kind in outputs for level in kind]
        grads = torch.autograd.grad(losses[name], levels, allow_unused=True, retain_graph=True)
        trained = {n // 5 for n, grad in enumerate(grads) if grad is not None and grad.any()}
        assert trained == {number}, name

    # Objects are assigned to refined points by the boxes of the first ones.
    sizes = [level.shape[-2:] for level in outputs[0]]
    points = torch.cat(head.prior_generator.grid_priors(sizes, device='cpu', with_stride=True))
    first = torch.cat([level[0].flatten(1).t() for level in outputs[1]])
    assert torch.equal(seen[0], points_to_boxes(first, points))
    assert not seen[0].requires_grad


@torch.no_grad()
@pytest.mark.parametrize('mixed', [False, True])
def test_detector_predicts_images_of_any_size(mixed: bool) -> None:
    model = randomize(build(model_config())).eval()
    model.bbox_head.test_cfg.score_thr = 0.0
    with torch.autocast('cpu', dtype=torch.bfloat16, enabled=mixed):
        for size in [(64, 96), (1, 1), (7, 200)]:
            (sample_out,) = run(model, batch([size], [sample([])]), 'predict')
            found = sample_out.pred_instances
            assert len(found) <= 100
            assert found.bboxes.isfinite().all()
            assert (found.bboxes[:, 2:] <= torch.tensor([2.0 * size[1], 2.0 * size[0]])).all()
            assert size == (1, 1) or len(found) > 0


@torch.no_grad()
def test_high_threshold_gives_no_detections() -> None:
    model = build(model_config()).eval()
    model.bbox_head.test_cfg.score_thr = 1.0
    (sample_out,) = run(model, batch([(64, 64)], [sample([])]), 'predict')
    assert len(sample_out.pred_instances) == 0
    assert sample_out.pred_instances.bboxes.shape == (0, 4)
