"""Average precision taken apart: by class, by size of object, and as curves of precision over recall."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swin_backbone.evaluation.style import HALF, Theme, new_figure

SIZES = ('all', 'small', 'medium', 'large')
DETECTION_COLUMNS = ('AP', 'AP50', 'AP75', 'small', 'medium', 'large')
KINDS = {'bbox': 'box', 'segm': 'mask'}
NAMED_CURVES = 8
"""With at most this many classes each has a curve of its own too; with more, only their mean is drawn."""


@dataclass(frozen=True)
class DetectionScores:
    """What COCO's protocol found for boxes or for masks.

    Attributes:
        classes: their names.
        thresholds: IoU from which a detection counts as right, ``[T]``.
        recalls: where precision is read off, ``[R]``.
        precision: ``[T, R, classes, sizes]``; -1 where a class has no object of a size.
        objects: annotated objects per class, crowds left out.
    """

    classes: tuple[str, ...]
    thresholds: NDArray[np.float64]
    recalls: NDArray[np.float64]
    precision: NDArray[np.float64]
    objects: tuple[int, ...]

    def average(self, iou: float | None = None, size: str = 'all') -> NDArray[np.float64]:
        """Average precision per class, at all thresholds or one; not a number where there is no such object."""
        precision = self.precision[..., SIZES.index(size)]
        if iou is not None:
            precision = precision[np.isclose(self.thresholds, iou)]
        present = (precision > -1).all(axis=(0, 1))
        return np.where(present, precision.mean(axis=(0, 1)), np.nan)

    def table(self) -> NDArray[np.float64]:
        """:data:`DETECTION_COLUMNS` per class, ``[classes, 6]``."""
        sizes = [self.average(size=size) for size in SIZES[1:]]
        return np.stack([self.average(), self.average(0.5), self.average(0.75), *sizes], axis=1)


def scores_of(evaluation: Any) -> DetectionScores:
    """The scores in a finished ``COCOeval``."""
    truth, parameters = evaluation.cocoGt, evaluation.params
    names = [category['name'] for category in truth.loadCats(parameters.catIds)]
    objects = []
    for category in parameters.catIds:
        annotations = truth.loadAnns(truth.getAnnIds(catIds=[category], imgIds=parameters.imgIds))
        objects.append(sum(not annotation.get('iscrowd', 0) for annotation in annotations))
    return DetectionScores(
        tuple(names),
        np.asarray(parameters.iouThrs, float),
        np.asarray(parameters.recThrs, float),
        np.asarray(evaluation.eval['precision'][..., -1], float),
        tuple(objects),
    )


def mean_of(values: NDArray[np.float64]) -> float:
    """The mean over classes that have a value; not a number if none has."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float('nan')


def draw_sizes(scores: Mapping[str, DetectionScores], theme: Theme) -> Any:
    """Average precision by size of object, boxes beside masks."""
    figure = new_figure(6.0, 3.2)
    axes = figure.subplots()
    width = 0.8 / len(scores)
    for i, (kind, found) in enumerate(scores.items()):
        heights = [mean_of(found.average(size=size)) for size in SIZES]
        places = np.arange(len(SIZES)) + (i - (len(scores) - 1) / 2) * width
        bars = axes.bar(places, np.nan_to_num(heights), width * 0.92, label=KINDS[kind])
        axes.bar_label(bars, ['none' if np.isnan(height) else f'{height:.3f}' for height in heights], fontsize=8)
    axes.set_xticks(range(len(SIZES)), ['all', 'small\n(under 32²)', 'medium\n(32² to 96²)', 'large\n(over 96²)'])
    axes.set(ylabel='AP', ylim=(0, 1.05), title='Average precision by area of the object in pixels')
    axes.legend(loc='upper left', ncols=2)
    return figure


def draw_precision_recall(found: DetectionScores, kind: str, theme: Theme) -> Any:
    """Precision over recall, the mean of the classes, at each IoU threshold."""
    figure = new_figure(*HALF)
    axes = figure.subplots()
    strongest = len(found.thresholds) - 1
    for i, threshold in enumerate(found.thresholds):
        curve = mean_curve(found.precision[i, :, :, 0])
        label = f'IoU {threshold:.2f}' if i in (0, strongest // 2, strongest) else None
        axes.plot(found.recalls, curve, color=theme.accents[0], alpha=1.0 - 0.8 * i / max(1, strongest), label=label)
    finish_curves(axes, f'{KINDS[kind]} detections, mean of classes')
    return figure


def draw_class_curves(found: DetectionScores, kind: str, theme: Theme) -> Any:
    """Precision over recall of each class, at the lowest IoU threshold."""
    figure = new_figure(*HALF)
    axes = figure.subplots()
    for i, name in enumerate(found.classes):
        curve = found.precision[0, :, i, 0]
        style = '-' if i < len(theme.accents) else '--'
        axes.plot(found.recalls, np.where(curve > -1, curve, np.nan), style, label=name, linewidth=1.3)
    finish_curves(axes, f'{KINDS[kind]} detections, each class at IoU {found.thresholds[0]:.2f}')
    return figure


def finish_curves(axes: Any, title: str) -> None:
    """Axes of precision over recall, the legend beside the curves."""
    axes.set(xlabel='recall', ylabel='precision', xlim=(0, 1), ylim=(0, 1.02), title=title)
    axes.grid()
    axes.legend(loc='upper left', bbox_to_anchor=(1.0, 1.0), fontsize=8)


def mean_curve(precision: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over classes that have objects, of precision ``[R, classes]``."""
    present = (precision > -1).all(axis=0)
    return precision[:, present].mean(axis=1) if present.any() else np.full(len(precision), np.nan)


SEGMENTATION_COLUMNS = ('IoU', 'accuracy', 'precision', 'share of pixels')
NAMED_CLASSES = 40
"""Up to this many classes have their names on the axes."""

WRITTEN_CLASSES = 14
"""Up to this many have the values in the cells."""


@dataclass(frozen=True)
class Confusion:
    """Pixels of each true class (rows) given to each class (columns), and the names of the classes."""

    classes: tuple[str, ...]
    matrix: NDArray[np.int64]

    def table(self) -> NDArray[np.float64]:
        """:data:`SEGMENTATION_COLUMNS` per class ``[classes, 4]``; not a number where a class does not occur."""
        hits = self.matrix.diagonal().astype(float)
        truth, found = self.matrix.sum(axis=1).astype(float), self.matrix.sum(axis=0).astype(float)
        union = truth + found - hits
        return np.stack(
            [ratio(hits, union), ratio(hits, truth), ratio(hits, found), truth / max(1.0, truth.sum())], axis=1
        )

    def worst_pairs(self, count: int) -> list[tuple[str, str, int, float]]:
        """The most frequent mistakes: true class, class given, pixels, and their share of the true class."""
        wrong = self.matrix.copy()
        np.fill_diagonal(wrong, 0)
        order = np.argsort(wrong, axis=None, kind='stable')[::-1][:count]
        pairs = [divmod(int(flat), len(self.classes)) for flat in order]
        truth = self.matrix.sum(axis=1)
        return [
            (self.classes[i], self.classes[j], int(wrong[i, j]), float(wrong[i, j] / truth[i]))
            for i, j in pairs
            if wrong[i, j]
        ]


def ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """``part / whole``, not a number where ``whole`` is zero."""
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)


def draw_confusion(confusion: Confusion, theme: Theme) -> Any:
    """The matrix with each row as shares of its true class."""
    classes = confusion.classes
    truth = confusion.matrix.sum(axis=1, keepdims=True).astype(float)
    shares = ratio(confusion.matrix.astype(float), np.broadcast_to(truth, confusion.matrix.shape).copy())
    side = min(11.0, max(5.0, 2.6 + 0.28 * len(classes)))
    figure = new_figure(side + 0.8, side)
    axes = figure.subplots()
    image = axes.imshow(100 * shares, cmap=theme.heat, vmin=0.0, vmax=100.0)
    figure.colorbar(image, ax=axes, shrink=0.8, label='percent of the true class')
    if len(classes) <= NAMED_CLASSES:
        axes.set_xticks(range(len(classes)), classes, rotation=60, ha='right', rotation_mode='anchor')
        axes.set_yticks(range(len(classes)), classes)
    if len(classes) <= WRITTEN_CLASSES:
        write_cells(axes, shares, image)
    numbered = '' if len(classes) <= NAMED_CLASSES else ', by number'
    axes.set(xlabel=f'class given{numbered}', ylabel=f'true class{numbered}', title='Confusion matrix')
    return figure


def write_cells(axes: Any, shares: NDArray[np.float64], image: Any) -> None:
    """Write percentages into the cells, black or white as their background asks."""
    for (row, column), share in np.ndenumerate(shares):
        if np.isnan(share) or share < 0.005:
            continue
        red, green, blue, _ = image.cmap(image.norm(100 * share))
        ink = 'black' if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else 'white'
        axes.text(column, row, f'{100 * share:.0f}', ha='center', va='center', fontsize=7, color=ink)


ROWS = 40


def draw_class_bars(classes: Sequence[str], values: NDArray[np.float64], title: str, unit: str, theme: Theme) -> Any:
    """One value between 0 and 1 per class as bars, best first, in as many columns as they need."""
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
