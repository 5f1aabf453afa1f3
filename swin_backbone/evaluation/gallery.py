"""Galleries: each picture of an evaluation with its truth beside the prediction."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from swin_backbone.errors import InputError
from swin_backbone.evaluation.drawing import (
    Colour,
    Image,
    Instances,
    draw_errors,
    draw_instances,
    draw_labels,
    fallback_palette,
    side_by_side,
)

SCORE_THRESHOLD = 0.3
"""Detections below it are not drawn; the figures count them all."""


def draw_sample(sample: Any, meta: dict[str, Any], threshold: float = SCORE_THRESHOLD) -> Image:
    """Truth, if there is any, beside prediction.

    Args:
        sample: a data sample of either toolkit, after a test.
        meta: of the data set, with ``classes`` and, if it has one, ``palette``.
        threshold: least score of a detection to be drawn.

    Returns:
        ``[H, W, 3]`` RGB.
    """
    image, classes, palette = read_image(sample.img_path), meta['classes'], palette_of(meta)
    if 'pred_sem_seg' in sample:
        return draw_semantic(sample, image, classes, palette)
    found = confident(as_instances(sample.pred_instances), threshold)
    panels = [draw_instances(image, found, classes, palette)]
    captions = [f'prediction, {counted(len(found.labels))} with a score of {threshold:g} or more']
    truth = truth_of(sample)
    if truth is not None:
        panels.insert(0, draw_instances(image, truth, classes, palette))
        captions.insert(0, f'truth, {counted(int((truth.labels >= 0).sum()))}')
    return side_by_side(panels, captions)


def counted(objects: int) -> str:
    """How many objects, in words of a caption."""
    return f'{objects} object' if objects == 1 else f'{objects} objects'


def draw_semantic(sample: Any, image: Image, classes: Sequence[str], palette: Sequence[Colour]) -> Image:
    """Label maps: truth, prediction, and where they differ."""
    labels = label_map(sample.pred_sem_seg)
    panels, captions = [draw_labels(image, labels, classes, palette)], ['prediction']
    if 'gt_sem_seg' in sample:
        truth = label_map(sample.gt_sem_seg)
        counted = truth != 255
        right = float((truth == labels)[counted].mean()) if counted.any() else 1.0
        panels = [draw_labels(image, truth, classes, palette), *panels, draw_errors(image, truth, labels)]
        captions = ['truth', *captions, f'wrong pixels in red, {right:.1%} right']
    return side_by_side(panels, captions)


def read_image(path: str) -> Image:
    """A picture as RGB ``[H, W, 3]``, turned as its camera says, as the toolkits read it."""
    import cv2
    import mmcv

    try:
        image = mmcv.imread(path, channel_order='rgb') if Path(path).is_file() else None
    except cv2.error:
        image = None
    if image is None:
        raise InputError(f'{path} cannot be read as a picture: check the file.')
    return np.asarray(image, np.uint8)


def palette_of(meta: dict[str, Any]) -> Sequence[Colour]:
    """The data set's colours, or made ones."""
    palette = meta.get('palette')
    if isinstance(palette, (list, tuple)) and len(palette) >= len(meta['classes']):
        return [tuple(colour) for colour in palette]
    return fallback_palette(len(meta['classes']))


def as_instances(data: Any) -> Instances:
    """The toolkit's instances as arrays."""
    boxes = getattr(data.bboxes, 'tensor', data.bboxes).detach().cpu().numpy().reshape(-1, 4)
    scores = data.scores.detach().cpu().numpy() if 'scores' in data else None
    return Instances(boxes, data.labels.cpu().numpy(), scores, mask_array(data.masks) if 'masks' in data else None)


def mask_array(masks: Any) -> NDArray[np.bool_]:
    """Masks ``[n, H, W]`` from a tensor or from MMDetection's mask structures."""
    return np.asarray(masks.to_ndarray() if hasattr(masks, 'to_ndarray') else masks.cpu().numpy(), bool)


def truth_of(sample: Any) -> Instances | None:
    """Annotated objects and crowds of a sample; None where the pipeline has loaded none."""
    if 'gt_instances' not in sample or 'bboxes' not in sample.gt_instances:
        return None
    truth = as_instances(sample.gt_instances)
    ignored = sample.get('ignored_instances')
    if ignored is None or 'bboxes' not in ignored or len(ignored) == 0:
        return truth
    crowds = as_instances(ignored)
    masks = None
    if truth.masks is not None and crowds.masks is not None:
        masks = np.concatenate([crowds.masks, truth.masks])
    labels = np.concatenate([np.full(len(crowds.labels), -1), truth.labels])
    return Instances(np.concatenate([crowds.boxes, truth.boxes]), labels, None, masks)


def confident(found: Instances, threshold: float) -> Instances:
    """The detections with at least a score of ``threshold``."""
    if found.scores is None:
        return found
    kept = found.scores >= threshold
    masks = None if found.masks is None else found.masks[kept]
    return Instances(found.boxes[kept], found.labels[kept], found.scores[kept], masks)


def label_map(data: Any) -> NDArray[np.uint8]:
    """A semantic map ``[H, W]``."""
    return np.asarray(data.data.squeeze().cpu().numpy(), np.uint8)


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
