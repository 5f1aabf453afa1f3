"""Intersection over union without rounding, with the confusion matrix."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmseg.evaluation import IoUMetric as StockIoUMetric
from numpy.typing import NDArray

from swin_backbone.errors import InputError
from swin_backbone.registry import METRICS


@METRICS.register_module()
class IoUMetric(StockIoUMetric):
    """MMSegmentation's metric without rounding to two decimals, computed from integer pixel counts.

    Attributes:
        matrix: confusion matrix in pixels, true classes as rows, predicted ones as columns; set by compute_metrics.
    """

    matrix: NDArray[np.int64] | None = None

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Count the pixels of a batch, or write the predictions to files if ``format_only``."""
        classes = len(self.dataset_meta['classes'])
        for sample in data_samples:
            super().process(data_batch, [sample])
            if not self.format_only:
                ground_truth = sample['gt_sem_seg']['data'].squeeze().cpu().numpy()
                check_labels(ground_truth, classes, self.ignore_index, sample['img_path'])
                prediction = sample['pred_sem_seg']['data'].squeeze().cpu().numpy()
                pairs = confusion_pairs(ground_truth, prediction, classes, self.ignore_index)
                self.results[-1] = (*self.results[-1], pairs)

    def evaluate(self, size: int) -> dict[str, float]:
        """Return the metrics; none if ``format_only``, where mmengine would complain about missing results."""
        return {} if self.format_only else super().evaluate(size)

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Return percentages with MMSegmentation's names; its table of classes is logged."""
        super().compute_metrics([areas[:4] for areas in results])
        classes = len(self.dataset_meta['classes'])
        self.matrix = sum_pairs([areas[4] for areas in results], classes)
        counts = torch.from_numpy(self.matrix).double()
        hits, ground_truth, found = counts.diagonal(), counts.sum(dim=1), counts.sum(dim=0)
        values = self.total_area_to_metrics(
            hits, ground_truth + found - hits, found, ground_truth, self.metrics, self.nan_to_num, self.beta
        )
        return {
            name if name == 'aAcc' else f'm{name}': float(np.nanmean(value)) * 100 for name, value in values.items()
        }


def check_labels(ground_truth: NDArray[Any], classes: int, ignore_index: int, path: str) -> None:
    """Raise InputError if a label map has classes that the data set does not have; they would change the score."""
    labels = np.unique(ground_truth)
    unknown = labels[(labels >= classes) & (labels != ignore_index)]
    if len(unknown):
        raise InputError(
            f'the label map of {path} contains class {unknown[0]}, but the data set has classes 0 to {classes - 1}: '
            'check reduce_zero_label and the classes of the config.'
        )


def confusion_pairs(
    ground_truth: NDArray[Any], prediction: NDArray[Any], classes: int, ignore_index: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count pairs of true and predicted classes in two label maps ``[H, W]``, without ignored pixels.

    Returns:
        The pairs that occur, as ``ground_truth * classes + prediction``, and their counts.
    """
    counted = ground_truth != ignore_index
    pairs = ground_truth[counted].astype(np.int64) * classes + prediction[counted].astype(np.int64)
    found, counts = np.unique(pairs, return_counts=True)
    return found, counts.astype(np.int64)


def sum_pairs(images: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]], classes: int) -> NDArray[np.int64]:
    """Sum the pairs of all images to a confusion matrix ``[classes, classes]``."""
    matrix = np.zeros(classes * classes, np.int64)
    for pairs, counts in images:
        matrix[pairs] += counts
    return matrix.reshape(classes, classes)
