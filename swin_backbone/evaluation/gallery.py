"""Galleries: images of an evaluation with ground truth and prediction side by side."""

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
    resize,
    side_by_side,
    tile,
)
from swin_backbone.files import write_bytes

SCORE_THRESHOLD = 0.3
"""Detections below this score are not drawn; metrics include all of them."""

SHEET_WIDTH = 2600
CELL_WIDTH = 1290
"""Maximum width of a cell; the three panels of a small image's label maps fit without reduction."""

SHEET_GAP = 12
CLASS_SIDE = 192
"""Longer side of an image in the gallery of a classifier."""


def draw_sample(sample: Any, meta: dict[str, Any], threshold: float = SCORE_THRESHOLD) -> Image:
    """Draw the prediction, next to the ground truth if there is any.

    Args:
        sample: a data sample of a toolkit after a test.
        meta: meta information of the data set, with ``classes`` and optionally ``palette``.
        threshold: minimum score of the drawn detections.

    Returns:
        ``[H, W, 3]`` RGB.

    Raises:
        InputError: if the image file cannot be read.
    """
    image, classes, palette = read_image(sample.img_path), meta['classes'], palette_of(meta)
    if 'pred_sem_seg' in sample:
        return draw_semantic(sample, image, classes, palette)
    if 'pred_label' in sample:
        return draw_class(sample, image, classes)
    found = as_instances(sample.pred_instances[sample.pred_instances.scores >= threshold])
    panels = [draw_instances(image, found, classes, palette)]
    captions = [f'prediction, {counted(len(found.labels))} with a score of {threshold:g} or more']
    truth = ground_truth_of(sample)
    if truth is not None:
        panels.insert(0, draw_instances(image, truth, classes, palette))
        captions.insert(0, f'ground truth, {counted(int((truth.labels >= 0).sum()))}')
    return side_by_side(panels, captions)


def counted(objects: int) -> str:
    """Format a number of objects."""
    return f'{objects} object' if objects == 1 else f'{objects} objects'


def draw_semantic(sample: Any, image: Image, classes: Sequence[str], palette: Sequence[Colour]) -> Image:
    """Draw ground truth, prediction and their differences."""
    labels = label_map(sample.pred_sem_seg)
    prediction = draw_labels(image, labels, classes, palette)
    if 'gt_sem_seg' not in sample:
        return side_by_side([prediction], ['prediction'])
    truth = label_map(sample.gt_sem_seg)
    correct = (truth == labels)[truth != 255]
    share = float(correct.mean()) if correct.size else 1.0
    panels = [draw_labels(image, truth, classes, palette), prediction, draw_errors(image, truth, labels)]
    return side_by_side(panels, ['ground truth', 'prediction', f'wrong pixels in red, {share:.1%} correct'])


def draw_class(sample: Any, image: Image, classes: Sequence[str]) -> Image:
    """Write the predicted class above an image, and the true class if it differs."""
    label, truth = int(sample.pred_label), int(sample.gt_label) if 'gt_label' in sample else None
    text = f'{classes[label]} {float(sample.pred_score[label]):.2f}'
    if truth not in (None, label):
        text += f' (true: {classes[truth]})'
    return side_by_side([resize(image, CLASS_SIDE / max(image.shape[:2]))], [text])


def read_image(path: str) -> Image:
    """Read an image as RGB ``[H, W, 3]``, rotated by its EXIF orientation as in the toolkits.

    Raises:
        InputError: if the file does not exist or is not an image.
    """
    import mmcv

    try:
        image = mmcv.imread(path, channel_order='rgb') if Path(path).is_file() else None
    except cv2.error:
        image = None
    if image is None:
        raise InputError(f'{path} cannot be read as an image: check the file.')
    return np.asarray(image, np.uint8)


def palette_of(meta: dict[str, Any]) -> Sequence[Colour]:
    """Return the data set's palette, or a generated one."""
    palette = meta.get('palette')
    if isinstance(palette, (list, tuple)) and len(palette) >= len(meta['classes']):
        return [tuple(colour) for colour in palette]
    return fallback_palette(len(meta['classes']))


def as_instances(data: Any) -> Instances:
    """Convert the toolkit's instances to arrays."""
    masks = None
    if 'masks' in data:
        # MMDetection's mask structures, or a tensor.
        masks = data.masks.to_ndarray() if hasattr(data.masks, 'to_ndarray') else data.masks.cpu().numpy()
        masks = np.asarray(masks, bool)
    boxes = getattr(data.bboxes, 'tensor', data.bboxes).detach().float().cpu().numpy().reshape(-1, 4)
    scores = data.scores.detach().float().cpu().numpy() if 'scores' in data else None
    return Instances(boxes, data.labels.cpu().numpy(), scores, masks)


def ground_truth_of(sample: Any) -> Instances | None:
    """Return the annotated objects and crowds of a sample; None if the pipeline loaded none."""
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


def label_map(data: Any) -> NDArray[np.uint8]:
    """Convert a semantic map to an array ``[H, W]``."""
    return np.asarray(data.data.squeeze().cpu().numpy(), np.uint8)


def draw_cell(sample: Any, meta: dict[str, Any]) -> Image:
    """Draw a sample with :func:`draw_sample`, at most :data:`CELL_WIDTH` pixels wide."""
    drawing = draw_sample(sample, meta)
    return resize(drawing, min(1.0, CELL_WIDTH / drawing.shape[1]))


def write_sheet(cells: Sequence[Image], out_file: Path) -> None:
    """Write drawn samples to one PNG file."""
    columns = min(max(1, SHEET_WIDTH // max(cell.shape[1] for cell in cells)), len(cells))
    sheet = tile(cells, columns, SHEET_GAP, (255, 255, 255))
    write_bytes(out_file, cv2.imencode('.png', sheet[..., ::-1])[1].tobytes())
