"""The reported mIoU compared with an independent computation pixel by pixel."""

from typing import Any

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import DefaultScope

from swin_backbone.errors import InputError
from swin_backbone.evaluation.charts import Confusion

CLASSES = ('circle', 'square', 'never', 'sky')
IGNORED = 255


def run_metric(pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[dict[str, float], Any]:
    with DefaultScope.overwrite_default_scope('mmseg'):
        evaluator = Evaluator(dict(type='swin_backbone.IoUMetric', iou_metrics=['mIoU']))
    evaluator.dataset_meta = dict(classes=CLASSES)
    for ground_truth, prediction in pairs:
        sample = dict(
            img_path='image.jpg',
            gt_sem_seg=dict(data=torch.from_numpy(ground_truth)[None]),
            pred_sem_seg=dict(data=torch.from_numpy(prediction)[None]),
        )
        evaluator.metrics[0].process({}, [sample])
    return evaluator.evaluate(len(pairs)), evaluator.metrics[0]


def images(seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(5):
        ground_truth = rng.choice([0, 1, 3, IGNORED], (23, 17), p=[0.2, 0.1, 0.6, 0.1])
        noise = rng.choice([0, 1, 3], ground_truth.shape)
        prediction = np.where((rng.random(ground_truth.shape) < 0.7) & (ground_truth != IGNORED), ground_truth, noise)
        pairs.append((ground_truth.astype(np.int64), prediction.astype(np.int64)))
    return pairs


@pytest.mark.parametrize('seed', [0, 1])
def test_miou_equals_pixel_loops(seed: int) -> None:
    pairs = images(seed)
    common, either, right, wanted, total, correct = ({}, {}, {}, {}, 0, 0)
    for ground_truth, prediction in pairs:
        for true, given in zip(ground_truth.ravel().tolist(), prediction.ravel().tolist(), strict=True):
            if true == IGNORED:
                continue
            total += 1
            correct += true == given
            wanted[true] = wanted.get(true, 0) + 1
            right[true] = right.get(true, 0) + (true == given)
            common[true] = common.get(true, 0) + (true == given)
            for label in {true, given}:
                either[label] = either.get(label, 0) + 1
    ious = [common.get(label, 0) / either[label] for label in either]
    reported, metric = run_metric(pairs)
    assert reported['mIoU'] / 100 == pytest.approx(sum(ious) / len(ious), abs=1e-6)
    accuracies = [right[label] / wanted[label] for label in wanted]
    assert reported['mAcc'] / 100 == pytest.approx(sum(accuracies) / len(accuracies), abs=1e-6)
    assert reported['aAcc'] / 100 == pytest.approx(correct / total, abs=1e-6)
    table = Confusion(CLASSES, metric.matrix).table()
    assert np.nanmean(table[:, 0]) == pytest.approx(sum(ious) / len(ious), abs=1e-6)
    assert np.isnan(table[2, 0]) and metric.matrix.sum() == total


def test_pixel_counts_are_exact_beyond_float32() -> None:
    ground_truth = np.zeros((1, 5000), np.int64)
    prediction = ground_truth.copy()
    prediction[0, 0] = 3
    _, metric = run_metric([(ground_truth, prediction)])
    metric.matrix[0, 0] = 2**24
    pairs = (np.array([0, 3]), np.array([2**24 + 1, 1]))
    with DefaultScope.overwrite_default_scope('mmseg'):
        areas = tuple(torch.ones(len(CLASSES)) for _ in range(4))
        reported = metric.compute_metrics([(*areas, pairs), (*areas, pairs)])
    assert metric.matrix[0, 0] == 2**25 + 2
    assert reported['aAcc'] / 100 == pytest.approx(1 - 2 / (2**25 + 4), abs=1e-12)


def test_unknown_label_raises_input_error() -> None:
    ground_truth = np.array([[0, 9]])
    with pytest.raises(InputError, match=r'image\.jpg contains class 9, but the data set has classes 0 to 3'):
        run_metric([(ground_truth, np.zeros_like(ground_truth))])
