"""A contact sheet of pictures, truth beside prediction, drawn by the toolkit's own visualizer."""

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

SCORE_THRESHOLD = 0.3
CELL_WIDTH = 640
GAP = 6


def draw_sheet(samples: Sequence[Any], visualizer: Any, out_file: Path, columns: int = 3) -> None:
    """Draw data samples of either toolkit into one picture.

    Args:
        samples: outputs of an evaluation, with ``img_path`` and truth.
        visualizer: MMDetection's or MMSegmentation's local visualizer.
        out_file: where the picture goes.
        columns: pairs of pictures per row.
    """
    import cv2

    cells = [fit_width(draw_pair(sample, visualizer), CELL_WIDTH) for sample in samples]
    columns = min(columns, len(cells))
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    sheet = np.vstack([join_row(row, columns) for row in rows])
    out_file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(out_file), sheet)


def draw_pair(sample: Any, visualizer: Any) -> np.ndarray:
    """Truth and prediction of one sample side by side, ``[H, 2W, 3]`` BGR."""
    import cv2

    image = np.asarray(cv2.imread(sample.img_path, cv2.IMREAD_COLOR))
    options = dict(pred_score_thr=SCORE_THRESHOLD) if 'pred_instances' in sample else dict(with_labels=False)
    with tempfile.TemporaryDirectory() as folder:
        path = f'{folder}/pair.png'
        visualizer.add_datasample(
            'pair', image[..., ::-1].copy(), sample, draw_gt=True, draw_pred=True, out_file=path, **options
        )
        return np.asarray(cv2.imread(path, cv2.IMREAD_COLOR))


def fit_width(picture: np.ndarray, width: int) -> np.ndarray:
    """Resize a picture to ``width``, keeping its shape."""
    import cv2

    height = max(1, math.floor(picture.shape[0] * width / picture.shape[1] + 0.5))
    enlarge = width > picture.shape[1]
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_NEAREST if enlarge else cv2.INTER_AREA)


def join_row(cells: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Cells of one width beside each other on white, padded to the tallest and to ``columns``."""
    height = max(cell.shape[0] for cell in cells)
    row = np.full((height + GAP, columns * (CELL_WIDTH + GAP), 3), 255, np.uint8)
    for number, cell in enumerate(cells):
        left = number * (CELL_WIDTH + GAP)
        row[: cell.shape[0], left : left + CELL_WIDTH] = cell
    return row
