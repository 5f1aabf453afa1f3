"""Charts and tables of scores by class and by object size, precision-recall curves, and the confusion matrix."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swin_backbone.evaluation.style import HALF, Theme, new_figure

SIZES = {'all': 'all', 'small': 'small\n(under 32²)', 'medium': 'medium\n(32² to 96²)', 'large': 'large\n(over 96²)'}
"""COCO's object size ranges, with the tick labels."""

DETECTION_COLUMNS = ('AP', 'AP50', 'AP75', 'small', 'medium', 'large')
SEGMENTATION_COLUMNS = ('IoU', 'accuracy', 'precision', 'share of pixels')
KINDS = {'bbox': 'box', 'segm': 'mask'}

NAMED_CURVES = 8
"""Maximum number of classes with separate precision-recall curves; for more, only the mean is drawn."""

NAMED_CLASSES = 40
"""Maximum number of classes whose names are on the axes of the confusion matrix."""

WRITTEN_CLASSES = 14
"""Maximum number of classes for which the cells of the confusion matrix contain values."""

ROWS = 40
"""Number of bars in one column of a bar chart."""


@dataclass(frozen=True)
class DetectionScores:
    """The scores of COCO's protocol, for boxes or for masks.

    Attributes:
        classes: class names.
        thresholds: IoU thresholds, ``[T]``.
        recalls: recall values at which precision is sampled, ``[R]``.
        precision: ``[T, R, classes, sizes]``; -1 if a class has no object of a size.
        objects: number of annotated objects per class, without crowds.
    """

    classes: tuple[str, ...]
    thresholds: NDArray[np.float64]
    recalls: NDArray[np.float64]
    precision: NDArray[np.float64]
    objects: tuple[int, ...]

    def average(self, iou: float | None = None, size: str = 'all') -> NDArray[np.float64]:
        """Return average precision per class, over all thresholds or at one; NaN for a class without such objects."""
        precision = self.precision[..., list(SIZES).index(size)]
        if iou is not None:
            precision = precision[np.isclose(self.thresholds, iou)]
        present = (precision > -1).all(axis=(0, 1))
        return np.where(present, precision.mean(axis=(0, 1)), np.nan)

    def table(self) -> NDArray[np.float64]:
        """Return :data:`DETECTION_COLUMNS` per class, ``[classes, 6]``."""
        sizes = [self.average(size=size) for size in ('small', 'medium', 'large')]
        return np.stack([self.average(), self.average(0.5), self.average(0.75), *sizes], axis=1)


def scores_of(evaluation: Any) -> DetectionScores:
    """Extract the scores from a finished ``COCOeval``."""
    data, parameters = evaluation.cocoGt, evaluation.params
    objects = []
    for label in parameters.catIds:
        annotations = data.loadAnns(data.getAnnIds(imgIds=parameters.imgIds, catIds=[label]))
        objects.append(sum(not annotation.get('iscrowd', 0) for annotation in annotations))
    return DetectionScores(
        tuple(category['name'] for category in data.loadCats(parameters.catIds)),
        np.asarray(parameters.iouThrs, float),
        np.asarray(parameters.recThrs, float),
        np.asarray(evaluation.eval['precision'][..., -1], float),
        tuple(objects),
    )


def draw_sizes(scores: Mapping[str, DetectionScores], theme: Theme) -> Any:
    """Draw average precision by object size, with boxes and masks side by side."""
    figure = new_figure(6.0, 3.2)
    axes = figure.subplots()
    width = 0.8 / len(scores)
    for i, (kind, found) in enumerate(scores.items()):
        known = [ap[~np.isnan(ap)] for ap in (found.average(size=size) for size in SIZES)]
        heights = [ap.mean() if len(ap) else np.nan for ap in known]
        places = np.arange(len(SIZES)) + (i - (len(scores) - 1) / 2) * width
        bars = axes.bar(places, np.nan_to_num(heights), width * 0.92, label=KINDS[kind])
        axes.bar_label(bars, ['none' if np.isnan(height) else f'{height:.3f}' for height in heights], fontsize=8)
    axes.set_xticks(range(len(SIZES)), SIZES.values())
    axes.set(ylabel='AP', ylim=(0, 1.05), title='Average precision by object area in pixels')
    axes.legend(loc='upper left', ncols=2)
    return figure


def draw_precision_recall(found: DetectionScores, kind: str, theme: Theme) -> Any:
    """Draw precision over recall, averaged over the classes, at each IoU threshold."""
    figure = new_figure(*HALF)
    axes = figure.subplots()
    present = (found.precision[..., 0] > -1).all(axis=(0, 1))
    last = len(found.thresholds) - 1
    for i, threshold in enumerate(found.thresholds):
        precision = found.precision[i, :, present, 0]
        curve = precision.mean(axis=0) if len(precision) else np.full(len(found.recalls), np.nan)
        label = f'IoU {threshold:.2f}' if i in (0, last // 2, last) else None
        axes.plot(found.recalls, curve, color=theme.accents[0], alpha=1.0 - 0.8 * i / max(1, last), label=label)
    finish_curves(axes, f'{KINDS[kind]} detections, mean of classes')
    return figure


def draw_class_curves(found: DetectionScores, kind: str, theme: Theme) -> Any:
    """Draw precision over recall of each class at the lowest IoU threshold."""
    figure = new_figure(*HALF)
    axes = figure.subplots()
    for i, name in enumerate(found.classes):
        curve = found.precision[0, :, i, 0]
        style = '-' if i < len(theme.accents) else '--'
        axes.plot(found.recalls, np.where(curve > -1, curve, np.nan), style, label=name, linewidth=1.3)
    finish_curves(axes, f'{KINDS[kind]} detections, each class at IoU {found.thresholds[0]:.2f}')
    return figure


def finish_curves(axes: Any, title: str) -> None:
    """Label the axes, and put the legend to the right of the curves."""
    axes.set(xlabel='recall', ylabel='precision', xlim=(0, 1), ylim=(0, 1.02), title=title)
    axes.grid()
    axes.legend(loc='upper left', bbox_to_anchor=(1.0, 1.0), fontsize=8)


@dataclass(frozen=True)
class Confusion:
    """Number of pixels of each class in the ground truth (rows) that were predicted as each class (columns)."""

    classes: tuple[str, ...]
    matrix: NDArray[np.int64]

    def table(self) -> NDArray[np.float64]:
        """Return :data:`SEGMENTATION_COLUMNS` per class, ``[classes, 4]``; NaN for a class that does not occur."""
        hits = self.matrix.diagonal().astype(float)
        true, predicted = self.matrix.sum(axis=1).astype(float), self.matrix.sum(axis=0).astype(float)
        scores = [ratio(hits, true + predicted - hits), ratio(hits, true), ratio(hits, predicted)]
        return np.stack([*scores, true / max(1.0, true.sum())], axis=1)

    def worst_pairs(self, count: int) -> list[tuple[str, str, int, float]]:
        """Return the most frequent errors: true class, predicted class, pixels, and their share of the true class."""
        wrong = self.matrix.copy()
        np.fill_diagonal(wrong, 0)
        order = np.argsort(wrong, axis=None, kind='stable')[::-1][:count]
        pairs = [divmod(int(flat), len(self.classes)) for flat in order]
        true = self.matrix.sum(axis=1)
        return [
            (self.classes[i], self.classes[j], int(wrong[i, j]), float(wrong[i, j] / true[i]))
            for i, j in pairs
            if wrong[i, j]
        ]


def ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide, with NaN if ``whole`` is zero."""
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def draw_confusion(confusion: Confusion, theme: Theme) -> Any:
    """Draw the confusion matrix with each row in percent of its true class."""
    classes = confusion.classes
    shares = ratio(confusion.matrix.astype(float), confusion.matrix.sum(axis=1, keepdims=True).astype(float))
    side = min(11.0, max(5.0, 2.6 + 0.28 * len(classes)))
    figure = new_figure(side + 0.8, side)
    axes = figure.subplots()
    image = axes.imshow(100 * shares, cmap=theme.heat, vmin=0.0, vmax=100.0)
    figure.colorbar(image, ax=axes, shrink=0.8, label='percent of the true class')
    numbered = ', by number'
    if len(classes) <= NAMED_CLASSES:
        axes.set_xticks(range(len(classes)), classes, rotation=60, ha='right', rotation_mode='anchor')
        axes.set_yticks(range(len(classes)), classes)
        numbered = ''
    axes.set(xlabel=f'predicted class{numbered}', ylabel=f'true class{numbered}', title='Confusion matrix')
    if len(classes) <= WRITTEN_CLASSES:
        for row, column in np.argwhere(shares >= 0.005):
            red, green, blue, _ = image.cmap(image.norm(100 * shares[row, column]))
            ink = 'black' if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else 'white'
            text = f'{100 * shares[row, column]:.0f}'
            axes.text(column, row, text, ha='center', va='center', fontsize=7, color=ink)
    return figure


def draw_class_bars(classes: Sequence[str], values: NDArray[np.float64], title: str, unit: str, theme: Theme) -> Any:
    """Draw one value between 0 and 1 per class as bars, best first, in as many columns as needed."""
    order = np.argsort(np.nan_to_num(values, nan=-1.0), kind='stable')[::-1]
    rows = min(ROWS, max(1, len(order)))
    columns = -(-len(order) // rows)
    figure = new_figure(max(6.0, 3.4 * columns), 0.8 + 0.21 * rows)
    panels = figure.subplots(1, columns, squeeze=False)[0]
    for i, axes in enumerate(panels):
        part = order[i * rows : (i + 1) * rows]
        bars = axes.barh(range(len(part)), np.nan_to_num(values[part]), 0.75, color=theme.accents[0])
        texts = ['none' if np.isnan(values[k]) else f'{values[k]:.3f}' for k in part]
        axes.bar_label(bars, texts, padding=2, fontsize=8)
        axes.set_yticks(range(len(part)), [classes[k] for k in part])
        axes.set(xlim=(0, 1.12), ylim=(rows - 0.4, -0.6), xlabel=unit)
    figure.suptitle(title, fontsize=11)
    return figure
