"""A contact sheet of pictures, truth beside prediction."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from swin_backbone.reports.drawing import Image
from swin_backbone.reports.gallery import draw_sample

SHEET_WIDTH = 2600
CELL_WIDTH = 1290
"""The most that a cell is wide: the three panels of a small picture's label maps are not reduced, and stay legible."""

GAP = 12


def draw_sheet(samples: Sequence[Any], meta: dict[str, Any], out_file: Path) -> None:
    """Draw data samples of either toolkit into one picture.

    Args:
        samples: outputs of an evaluation, with ``img_path`` and truth.
        meta: of the data set, with ``classes`` and, if it has one, ``palette``.
        out_file: where the picture goes.
    """
    cells = [no_wider(draw_sample(sample, meta), CELL_WIDTH) for sample in samples]
    width = max(cell.shape[1] for cell in cells)
    columns = min(max(1, SHEET_WIDTH // width), len(cells))
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    sheet = np.vstack([join_row(row, columns, width) for row in rows])[:-GAP]
    out_file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(out_file), sheet[..., ::-1])


def no_wider(picture: Image, width: int) -> Image:
    """Reduce a picture that is wider than ``width`` to it, keeping its shape."""
    if picture.shape[1] <= width:
        return picture
    size = (width, max(1, round(picture.shape[0] * width / picture.shape[1])))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def join_row(cells: Sequence[Image], columns: int, width: int) -> Image:
    """Cells beside each other on white, padded to ``width``, to the tallest and to ``columns``."""
    height = max(cell.shape[0] for cell in cells)
    row = np.full((height + GAP, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for number, cell in enumerate(cells):
        left = number * (width + GAP)
        row[: cell.shape[0], left : left + cell.shape[1]] = cell
    return row
