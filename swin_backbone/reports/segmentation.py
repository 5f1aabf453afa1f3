"""A confusion matrix read: IoU and accuracy by class, and which classes are taken for which."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swin_backbone.reports.style import Theme, new_figure

COLUMNS = ('IoU', 'accuracy', 'precision', 'share of pixels')
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
        """:data:`COLUMNS` per class ``[classes, 4]``; not a number where a class does not occur."""
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
