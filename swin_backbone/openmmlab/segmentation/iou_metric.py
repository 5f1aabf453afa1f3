"""Intersection over union to full precision, with the confusion matrix behind it."""

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
    """MMSegmentation's metric without its rounding to two decimals, from whole-number pixel counts.

    Attributes:
        matrix: pixels of each true class (rows) given to each class (columns), once the metrics are computed.
    """

    matrix: NDArray[np.int64] | None = None

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Count the pixels of a batch, and write them down where the metric formats."""
        classes = len(self.dataset_meta['classes'])
        for sample in data_samples:
            super().process(data_batch, [sample])
            if not self.format_only:
                truth = sample['gt_sem_seg']['data'].squeeze().cpu().numpy()
                check_labels(truth, classes, self.ignore_index, sample['img_path'])
                prediction = sample['pred_sem_seg']['data'].squeeze().cpu().numpy()
                pairs = confusion_pairs(truth, prediction, classes, self.ignore_index)
                self.results[-1] = (*self.results[-1], pairs)

    def evaluate(self, size: int) -> dict[str, float]:
        """The metrics; none where the metric only writes files, for which mmengine would report missing results."""
        return {} if self.format_only else super().evaluate(size)

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Percentages under MMSegmentation's names; its table of classes goes to the log."""
        super().compute_metrics([areas[:4] for areas in results])
        classes = len(self.dataset_meta['classes'])
        self.matrix = sum_pairs([areas[4] for areas in results], classes)
        counts = torch.from_numpy(self.matrix).double()
        hits, truth, found = counts.diagonal(), counts.sum(dim=1), counts.sum(dim=0)
        values = self.total_area_to_metrics(
            hits, truth + found - hits, found, truth, self.metrics, self.nan_to_num, self.beta
        )
        return {
            name if name == 'aAcc' else f'm{name}': float(np.nanmean(value)) * 100 for name, value in values.items()
        }


def check_labels(truth: NDArray[Any], classes: int, ignore_index: int, path: str) -> None:
    """Refuse a label map with classes that the data set does not have; they would distort the score unseen."""
    labels = np.unique(truth)
    strange = labels[(labels >= classes) & (labels != ignore_index)]
    if len(strange):
        raise InputError(
            f'the label map of {path} holds class {strange[0]}, and the data set has classes 0 to {classes - 1}: '
            'check reduce_zero_label and the classes of the config.'
        )


def confusion_pairs(
    truth: NDArray[Any], prediction: NDArray[Any], classes: int, ignore_index: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of true and given class in two label maps ``[H, W]``, without the pixels to ignore.

    Returns:
        The pairs that occur, as ``truth * classes + prediction``, and how often each does.
    """
    counted = truth != ignore_index
    pairs = truth[counted].astype(np.int64) * classes + prediction[counted].astype(np.int64)
    found, counts = np.unique(pairs, return_counts=True)
    return found, counts.astype(np.int64)


def sum_pairs(images: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]], classes: int) -> NDArray[np.int64]:
    """The confusion matrix ``[classes, classes]`` of many images."""
    matrix = np.zeros(classes * classes, np.int64)
    for pairs, counts in images:
        matrix[pairs] += counts
    return matrix.reshape(classes, classes)
