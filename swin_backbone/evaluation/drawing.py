"""Draw objects and label maps over images; legible for thumbnails and photographs."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Colour = tuple[int, ...]
Rectangle = tuple[float, float, float, float]

MIN_WIDTH, MAX_SIDE = 420, 900
"""Limits of the size of a drawing in pixels."""

GAP = 8
CAPTION_HEIGHT = 26
MASK_WEIGHT, LABEL_WEIGHT = 0.45, 0.6
CROWD, IGNORED, WRONG = (150, 150, 150), (20, 20, 20), (225, 45, 40)
STRIP, STRIP_INK = (43, 47, 54), (236, 236, 236)
NAMED_SHARE = 0.01
"""Regions of a label map below this fraction of the image are drawn without a name."""


@dataclass
class Instances:
    """Objects in an image.

    Attributes:
        boxes: ``[n, 4]``, corners in pixels.
        labels: ``[n]``, class indices; -1 for a crowd.
        scores: ``[n]``, or None for ground truth.
        masks: ``[n, H, W]``, or None.
    """

    boxes: NDArray[np.floating[Any]]
    labels: NDArray[np.integer[Any]]
    scores: NDArray[np.floating[Any]] | None = None
    masks: Mask | None = None


@lru_cache(maxsize=8)
def font(size: int) -> Any:
    """Load the font that is included in Matplotlib."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / 'fonts' / 'ttf' / 'DejaVuSans.ttf'), size)


def pen(canvas: Image) -> tuple[Any, Any]:
    """Convert an array to a Pillow image, and create its drawing object."""
    from PIL import Image as Pillow
    from PIL import ImageDraw

    image = Pillow.fromarray(canvas)
    return image, ImageDraw.Draw(image)


def display_scale(height: int, width: int) -> float:
    """Return the factor by which an image is enlarged or reduced for display."""
    if max(height, width) > MAX_SIDE:
        return MAX_SIDE / max(height, width)
    return max(1.0, min(MIN_WIDTH / width, MAX_SIDE / height))


def resize(image: Image, scale: float) -> Image:
    """Resize an image with smooth interpolation."""
    if scale == 1.0:
        return image
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA), np.uint8)


def resize_mask(mask: Mask, size: tuple[int, ...]) -> Mask:
    """Resize a mask to (height, width) with smooth outlines."""
    if mask.shape == size:
        return mask
    return np.asarray(cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR) >= 0.5)


def blend(canvas: Image, colours: NDArray[Any], weight: float) -> Image:
    """Mix pixels with colours."""
    return np.asarray(canvas * (1 - weight) + colours * weight).astype(np.uint8)


def draw_instances(
    image: Image, found: Instances, classes: Sequence[str], palette: Sequence[Colour], scale: float | None = None
) -> Image:
    """Draw masks, boxes and names over an RGB image ``[H, W, 3]``, with the highest scores on top.

    The drawing has ``scale`` times the size of the image; by default, display size.
    """
    scale = scale or display_scale(*image.shape[:2])
    canvas = resize(image, scale).copy()
    order = range(len(found.labels)) if found.scores is None else np.argsort(found.scores, kind='stable')
    colours = [CROWD if label < 0 else tuple(palette[label]) for label in found.labels]
    for i in order if found.masks is not None else ():
        mask = resize_mask(found.masks[i], canvas.shape[:2])  # type: ignore[index]
        canvas[mask] = blend(canvas[mask], np.array(colours[i]), MASK_WEIGHT)
        outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        # Thick lines would hide small objects in photographs.
        cv2.drawContours(canvas, outlines, -1, colours[i], 2 if scale > 1.5 else 1, cv2.LINE_AA)
    drawing, draw = pen(canvas)
    boxes = [[float(value) * scale for value in box] for box in found.boxes]
    for i in order:
        draw.rectangle(boxes[i], outline=colours[i], width=2)
    taken: list[Rectangle] = []
    for i in reversed(order):
        name = 'crowd' if found.labels[i] < 0 else classes[found.labels[i]]
        text = name if found.scores is None else f'{name} {found.scores[i]:.2f}'
        taken.append(write_tag(draw, text, boxes[i][:2], colours[i], canvas.shape[1], taken))
    return np.asarray(drawing)


def write_tag(
    draw: Any, text: str, corner: Sequence[float], colour: Colour, width: int, taken: Sequence[Rectangle] = ()
) -> Rectangle:
    """Write text on a coloured patch above ``corner`` or, at the upper edge of the image, below it.

    Args:
        draw: Pillow's drawing object.
        text: the text.
        corner: x and y.
        colour: colour of the patch.
        width: width of the image.
        taken: patches that must not be covered.

    Returns:
        The patch.
    """
    _, _, right, bottom = draw.textbbox((0, 0), text, font=font(12))
    x = min(max(corner[0], 0.0), max(0.0, width - right - 4.0))
    y = corner[1] - bottom - 3 if corner[1] > bottom + 3 else corner[1]
    patch = free_place((x, y, x + right + 4, y + bottom + 3), taken)
    luminance = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    draw.rectangle(patch, fill=colour)
    ink = (0, 0, 0) if luminance > 140 else (255, 255, 255)
    draw.text((patch[0] + 2, patch[1] + 1), text, fill=ink, font=font(12))
    return patch


def free_place(patch: Rectangle, taken: Sequence[Rectangle]) -> Rectangle:
    """Move a patch down until it does not overlap any of the others."""
    left, top, right, bottom = patch
    for other in sorted(taken, key=lambda place: place[1]):
        if left <= other[2] and other[0] <= right and top <= other[3] and other[1] <= bottom:
            top, bottom = other[3] + 1, other[3] + 1 + bottom - top
    return left, top, right, bottom


def draw_labels(
    image: Image,
    labels: NDArray[Any],
    classes: Sequence[str],
    palette: Sequence[Colour],
    ignore_index: int = 255,
    scale: float | None = None,
) -> Image:
    """Draw a label map ``[H, W]`` over an image, with names in large regions and ignored pixels dark.

    The drawing has ``scale`` times the size of the image; by default, display size.
    """
    colours = np.full((256, 3), IGNORED, np.uint8)
    colours[: len(palette)] = np.asarray(palette, np.uint8)
    canvas = resize(image, scale or display_scale(*image.shape[:2]))
    height, width = canvas.shape[:2]
    shown = cv2.resize(labels.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    drawing, draw = pen(blend(canvas, colours[shown], LABEL_WEIGHT))
    for label in np.unique(shown):
        if label == ignore_index or label >= len(classes):
            continue
        for x, y in region_centres(shown == label):
            half = draw.textlength(classes[label], font=font(12)) / 2
            write_tag(draw, classes[label], (x - half, y + 8), tuple(map(int, colours[label])), width)
    return np.asarray(drawing)


def region_centres(mask: Mask) -> list[tuple[int, int]]:
    """Return the point (x, y) farthest from the border of each large connected region."""
    count, regions, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    centres = []
    for region in range(1, count):
        if statistics[region, cv2.CC_STAT_AREA] >= NAMED_SHARE * mask.size:
            inside = np.pad(regions == region, 1).astype(np.uint8)
            depth = cv2.distanceTransform(inside, cv2.DIST_L2, 3)
            y, x = np.unravel_index(int(depth.argmax()), depth.shape)
            centres.append((int(x) - 1, int(y) - 1))
    return centres


def draw_errors(image: Image, truth: NDArray[Any], labels: NDArray[Any], ignore_index: int = 255) -> Image:
    """Draw the image in grey at display size with wrong pixels in red; ignored pixels are dark."""
    grey = cv2.cvtColor(resize(image, display_scale(*image.shape[:2])), cv2.COLOR_RGB2GRAY)
    canvas = np.repeat((grey * 0.6 + 90).astype(np.uint8)[..., None], 3, axis=2)
    wrong = resize_mask((truth != labels) & (truth != ignore_index), canvas.shape[:2])
    canvas[wrong] = blend(canvas[wrong], np.array(WRONG), 0.75)
    canvas[resize_mask(truth == ignore_index, canvas.shape[:2])] = IGNORED
    return canvas


def tile(images: Sequence[Image], columns: int, gap: int, background: Colour) -> Image:
    """Arrange images in a grid; cells are as wide as the widest image, rows as high as their highest image."""
    width = max(image.shape[1] for image in images)
    rows = []
    for start in range(0, len(images), columns):
        cells = images[start : start + columns]
        row = np.full((max(cell.shape[0] for cell in cells) + gap, columns * (width + gap), 3), background, np.uint8)
        for i, cell in enumerate(cells):
            row[: cell.shape[0], i * (width + gap) : i * (width + gap) + cell.shape[1]] = cell
        rows.append(row)
    return np.vstack(rows)[:-gap, :-gap]


def side_by_side(panels: Sequence[Image], captions: Sequence[str]) -> Image:
    """Arrange panels in a row with captions above, on a grey that works on light and dark pages."""
    cells = []
    for panel, caption in zip(panels, captions, strict=True):
        height, width = panel.shape[:2]
        # Widen the cell of a narrow image so that its caption fits.
        shape = (CAPTION_HEIGHT + height, max(width, 2 + int(font(14).getlength(caption) + 1)), 3)
        cell = np.full(shape, STRIP, np.uint8)
        cell[CAPTION_HEIGHT:, :width] = panel
        drawing, draw = pen(cell)
        draw.text((2, 4), caption, fill=STRIP_INK, font=font(14))
        cells.append(np.asarray(drawing))
    return tile(cells, len(cells), GAP, STRIP)


def fallback_palette(count: int) -> list[Colour]:
    """Generate distinct colours for classes without a palette."""
    hues = (np.arange(count) * 0.61803398875 % 1.0 * 179).astype(np.uint8)
    pixels = np.stack([hues, np.full(count, 190, np.uint8), np.full(count, 215, np.uint8)], axis=-1)[None]
    return [tuple(map(int, pixel)) for pixel in cv2.cvtColor(pixels, cv2.COLOR_HSV2RGB)[0]]
