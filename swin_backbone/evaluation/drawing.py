"""Truth and predictions drawn over pictures, legible for thumbnails and photographs alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]

LEAST_WIDTH, GREATEST_SIDE = 420, 900
GAP = 8
CAPTION_HEIGHT = 26
MASK_WEIGHT, LABEL_WEIGHT = 0.45, 0.6
CROWD: Colour = (150, 150, 150)
IGNORED: Colour = (20, 20, 20)
WRONG: Colour = (225, 45, 40)
STRIP: Colour = (43, 47, 54)
STRIP_INK: Colour = (236, 236, 236)
NAMED_SHARE = 0.01
"""Regions of a label map below this share of the picture stay without a name."""


@dataclass
class Instances:
    """Objects in a picture.

    Attributes:
        boxes: ``[n, 4]``, corners in pixels.
        labels: ``[n]``, indices of classes; -1 for a crowd, which no detector is asked to find.
        scores: ``[n]``, or None for truth.
        masks: ``[n, H, W]``, or None.
    """

    boxes: NDArray[np.floating[Any]]
    labels: NDArray[np.integer[Any]]
    scores: NDArray[np.floating[Any]] | None = None
    masks: NDArray[np.bool_] | None = None


@lru_cache(maxsize=8)
def font(size: int) -> Any:
    """The typeface that comes with Matplotlib."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / 'fonts' / 'ttf' / 'DejaVuSans.ttf'), size)


def display_scale(height: int, width: int) -> float:
    """By how much a picture is enlarged or reduced to be looked at."""
    if max(height, width) > GREATEST_SIDE:
        return GREATEST_SIDE / max(height, width)
    return max(1.0, min(LEAST_WIDTH / width, GREATEST_SIDE / height))


def enlarge(image: Image, scale: float) -> Image:
    """A picture at ``scale``."""
    if scale == 1.0:
        return image
    way = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=way), np.uint8)


def enlarge_mask(mask: NDArray[np.bool_], size: tuple[int, ...]) -> NDArray[np.bool_]:
    """A mask at another (height, width), with smooth outlines."""
    if mask.shape == size:
        return mask
    return np.asarray(cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR) >= 0.5)


def draw_instances(image: Image, found: Instances, classes: Sequence[str], palette: Sequence[Colour]) -> Image:
    """Masks, boxes and names over a picture ``[H, W, 3]`` RGB, at display size, best scores on top."""
    scale = display_scale(image.shape[0], image.shape[1])
    canvas = enlarge(image, scale).copy()
    order = range(len(found.labels)) if found.scores is None else np.argsort(found.scores, kind='stable')
    # Thick lines would hide the small objects of photographs.
    thickness = 2 if scale > 1.5 else 1
    if found.masks is not None:
        for i in order:
            mask = enlarge_mask(found.masks[i], canvas.shape[:2])
            paint_mask(canvas, mask, colour_of(found.labels[i], palette), thickness)
    drawing, draw = pen(canvas)
    boxes = [[float(value) * scale for value in box] for box in found.boxes]
    for i in order:
        draw.rectangle(boxes[i], outline=colour_of(found.labels[i], palette), width=2)
    taken: list[Rectangle] = []
    for i in reversed(order):
        name = 'crowd' if found.labels[i] < 0 else classes[found.labels[i]]
        text = name if found.scores is None else f'{name} {found.scores[i]:.2f}'
        corner = (boxes[i][0], boxes[i][1])
        write_tag(draw, text, corner, colour_of(found.labels[i], palette), canvas.shape[1], taken)
    return np.asarray(drawing)


def colour_of(label: int, palette: Sequence[Colour]) -> Colour:
    """A class's colour."""
    return CROWD if label < 0 else tuple(palette[label])  # type: ignore[return-value]


def paint_mask(canvas: Image, mask: NDArray[np.bool_], colour: Colour, thickness: int) -> None:
    """Tint the pixels of a mask and trace its border."""
    canvas[mask] = (canvas[mask] * (1 - MASK_WEIGHT) + np.array(colour) * MASK_WEIGHT).astype(np.uint8)
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, outlines, -1, colour, thickness, cv2.LINE_AA)


def pen(canvas: Image) -> tuple[Any, Any]:
    """A picture to draw text on, and the drawing tool."""
    from PIL import Image as Pillow
    from PIL import ImageDraw

    picture = Pillow.fromarray(canvas)
    return picture, ImageDraw.Draw(picture)


def contrast(colour: Colour) -> Colour:
    """Black or white, whichever is legible on a colour."""
    luminance = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    return (0, 0, 0) if luminance > 140 else (255, 255, 255)


def write_tag(
    draw: Any,
    text: str,
    corner: tuple[float, float],
    colour: Colour,
    width: int,
    taken: list[Rectangle] | None = None,
) -> None:
    """Write a name on a patch of its colour, above ``corner`` or, at the picture's edge, just inside.

    Args:
        draw: the drawing tool.
        text: the name.
        corner: x and y.
        colour: of the patch.
        width: of the picture.
        taken: patches not to be covered, to which this one is added.
    """
    _, _, right, bottom = draw.textbbox((0, 0), text, font=font(12))
    x = min(max(corner[0], 0.0), max(0.0, width - right - 4.0))
    y = corner[1] - bottom - 3 if corner[1] > bottom + 3 else corner[1]
    patch = (x, y, x + right + 4, y + bottom + 3)
    if taken is not None:
        patch = free_place(patch, taken)
        taken.append(patch)
    draw.rectangle(patch, fill=colour)
    draw.text((patch[0] + 2, patch[1] + 1), text, fill=contrast(colour), font=font(12))


def free_place(patch: Rectangle, taken: Sequence[Rectangle]) -> Rectangle:
    """A patch moved down, as far as it takes to cover none of the others."""
    left, top, right, bottom = patch
    for other in sorted(taken, key=lambda place: place[1]):
        if left <= other[2] and other[0] <= right and top <= other[3] and other[1] <= bottom:
            top, bottom = other[3] + 1, other[3] + 1 + bottom - top
    return left, top, right, bottom


def draw_labels(
    image: Image, labels: NDArray[Any], classes: Sequence[str], palette: Sequence[Colour], ignore_index: int = 255
) -> Image:
    """A label map ``[H, W]`` over a picture at display size, the larger regions named; ignored pixels are dark."""
    scale = display_scale(image.shape[0], image.shape[1])
    table = np.full((256, 3), IGNORED, np.uint8)
    table[: len(palette)] = np.asarray(palette, np.uint8)
    canvas = enlarge(image, scale)
    size = canvas.shape[:2]
    shown = cv2.resize(labels.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST)
    canvas = (canvas * (1 - LABEL_WEIGHT) + table[shown] * LABEL_WEIGHT).astype(np.uint8)
    drawing, draw = pen(canvas)
    for label in np.unique(shown):
        if label == ignore_index or label >= len(classes):
            continue
        for x, y in region_centres(shown == label):
            text = classes[label]
            half = draw.textlength(text, font=font(12)) / 2
            write_tag(draw, text, (x - half, y + 8), tuple(int(value) for value in table[label]), size[1])  # type: ignore[arg-type]
    return np.asarray(drawing)


def region_centres(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """For each connected region of some size, the point (x, y) deepest inside it."""
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
    """The picture in grey at display size, with wrongly labelled pixels in red; ignored pixels are dark."""
    scale = display_scale(image.shape[0], image.shape[1])
    grey = cv2.cvtColor(enlarge(image, scale), cv2.COLOR_RGB2GRAY)
    canvas = np.repeat((grey * 0.6 + 90).astype(np.uint8)[..., None], 3, axis=2)
    wrong = enlarge_mask((truth != labels) & (truth != ignore_index), canvas.shape[:2])
    canvas[wrong] = (canvas[wrong] * 0.25 + np.array(WRONG) * 0.75).astype(np.uint8)
    canvas[enlarge_mask(truth == ignore_index, canvas.shape[:2])] = IGNORED
    return canvas


def side_by_side(panels: Sequence[Image], captions: Sequence[str]) -> Image:
    """Panels of one size beside each other, a caption above each, framed in a grey that suits light and dark pages."""
    height, width = panels[0].shape[:2]
    # A narrow picture is no reason to cut its caption.
    cell = max(width, *(2 + int(font(14).getlength(caption) + 1) for caption in captions))
    total = len(panels) * cell + (len(panels) - 1) * GAP
    sheet = np.full((height + CAPTION_HEIGHT, total, 3), STRIP, np.uint8)
    for i, panel in enumerate(panels):
        left = i * (cell + GAP)
        sheet[CAPTION_HEIGHT:, left : left + width] = panel
    drawing, draw = pen(sheet)
    for i, caption in enumerate(captions):
        draw.text((i * (cell + GAP) + 2, 4), caption, fill=STRIP_INK, font=font(14))
    return np.asarray(drawing)


def fallback_palette(count: int) -> list[Colour]:
    """Distinct colours for classes that come without."""
    hues = (np.arange(count) * 0.61803398875 % 1.0 * 179).astype(np.uint8)
    pixels = np.stack([hues, np.full(count, 190, np.uint8), np.full(count, 215, np.uint8)], axis=-1)[None]
    return [tuple(int(part) for part in pixel) for pixel in cv2.cvtColor(pixels, cv2.COLOR_HSV2RGB)[0]]  # type: ignore[misc]
