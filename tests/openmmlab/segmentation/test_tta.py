"""Test-time augmentation of segmenters."""

from pathlib import Path

import pytest
import torch

from swin_backbone.datasets.shapes import ShapesSpec, write_shapes
from swin_backbone.engine.tta import use_tta
from tests.demo_models import SEGMENTATION, batches, build_model, demo_config, predict


@pytest.fixture(scope='module')
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('data') / 'shapes'
    write_shapes(root, ShapesSpec(train_count=1, val_count=2))
    return root


@pytest.mark.parametrize('size', [128, 96])
def test_one_view_equals_a_normal_test(shapes: Path, size: int) -> None:
    plain = predict(demo_config(SEGMENTATION, shapes, size))
    config = demo_config(SEGMENTATION, shapes, size)
    assert use_tta(config, factors=(1.0,), flips=(False,)) == 1
    for expected, found in zip(plain, predict(config), strict=True):
        assert torch.equal(expected.pred_sem_seg.data, found.pred_sem_seg.data)
        assert torch.equal(expected.seg_logits.data, found.seg_logits.data)
        assert torch.equal(expected.gt_sem_seg.data, found.gt_sem_seg.data)


@torch.no_grad()
def test_probabilities_are_averaged_at_the_size_of_the_image(shapes: Path) -> None:
    config = demo_config(SEGMENTATION, shapes, 96)
    assert use_tta(config, factors=(0.5, 1.0, 1.75)) == 6
    (batch,) = batches(config, size=2)
    model = build_model(config)
    merged = model.test_step(batch)
    total = 0.0
    for view in range(6):
        one = dict(inputs=batch['inputs'][view], data_samples=batch['data_samples'][view])
        total = total + torch.stack([sample.seg_logits.data.softmax(dim=0) for sample in model.module.test_step(one)])
    for sample, probabilities in zip(merged, total / 6, strict=True):
        torch.testing.assert_close(sample.seg_logits.data, probabilities)
        assert torch.equal(sample.pred_sem_seg.data, sample.seg_logits.data.argmax(dim=0, keepdim=True))
        assert sample.pred_sem_seg.data.shape == sample.gt_sem_seg.data.shape == (1, 128, 128)


@torch.no_grad()
def test_flipped_view_is_flipped_back(shapes: Path) -> None:
    config = demo_config(SEGMENTATION, shapes)
    use_tta(config, factors=(1.0,), flips=(True,))
    (batch,) = batches(config, size=2)
    model = build_model(config)
    mirrored = model.test_step(batch)
    straight = dict(inputs=batch['inputs'][0], data_samples=[sample.clone() for sample in batch['data_samples'][0]])
    for sample in straight['data_samples']:
        sample.set_metainfo(dict(flip=False, flip_direction=None))
    for found, raw in zip(mirrored, model.module.test_step(straight), strict=True):
        assert torch.equal(found.pred_sem_seg.data, raw.pred_sem_seg.data.flip(-1))
