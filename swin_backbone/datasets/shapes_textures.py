"""Surfaces of the embedded data set: what objects are painted with and what their backgrounds consist of.

Arrays are [H, W, 3] in 0..255, floating point. The hue of an object narrows its kind down to a family of kinds at
most, so that shape has to decide; backgrounds keep a colour family beside their texture.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from swin_backbone.datasets.shapes_spec import ShapesSpec

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.uint8]
BoolArray = NDArray[np.bool_]

# Bands of a background from top to bottom (indices into STUFF_CLASSES); several are two or three bands.
SCENES = ((0, 2), (0, 1), (0, 1, 2), (1, 2), (2,), (0, 2), (0, 1))
CANDIDATES = 16
# The part of its share of all hues that a family of kinds uses; the rest keeps families apart.
FAMILY_SPAN = (0.15, 0.85)


def smooth_noise(rng: np.random.Generator, height: int, width: int, cell: float) -> FloatArray:
    """Noise in 0..1 that changes over about ``cell`` pixels: a random grid, interpolated without creases. [H, W]."""
    grid = rng.random((int(height / cell) + 2, int(width / cell) + 2))
    rows, row_weight = _cells(height, cell)
    columns, column_weight = _cells(width, cell)
    upper = grid[rows] * (1 - row_weight)[:, None] + grid[rows + 1] * row_weight[:, None]
    return upper[:, columns] * (1 - column_weight) + upper[:, columns + 1] * column_weight


def _cells(length: int, cell: float) -> tuple[NDArray[np.int64], FloatArray]:
    position = np.arange(length) / cell
    index = position.astype(np.int64)
    fraction = position - index
    return index, fraction * fraction * (3 - 2 * fraction)


def _rotated(rng: np.random.Generator, height: int, width: int) -> tuple[FloatArray, FloatArray]:
    angle = rng.uniform(0, np.pi)
    x, y = np.meshgrid(np.arange(width) + rng.uniform(0, 64), np.arange(height) + rng.uniform(0, 64))
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _stripes(rng: np.random.Generator, height: int, width: int) -> FloatArray:
    along, _ = _rotated(rng, height, width)
    return (along / rng.uniform(4, 8) % 1 < 0.5).astype(np.float64)


def _checks(rng: np.random.Generator, height: int, width: int) -> FloatArray:
    along, across = _rotated(rng, height, width)
    side = rng.uniform(3, 6)
    return (np.floor(along / side) + np.floor(across / side)) % 2


def _dots(rng: np.random.Generator, height: int, width: int) -> FloatArray:
    along, across = _rotated(rng, height, width)
    pitch = rng.uniform(5, 8)
    return (np.hypot(along / pitch % 1 - 0.5, across / pitch % 1 - 0.5) < 0.3).astype(np.float64)


def _grain(rng: np.random.Generator, height: int, width: int) -> FloatArray:
    return smooth_noise(rng, height, width, rng.uniform(1.5, 4))


def _gradient(rng: np.random.Generator, height: int, width: int) -> FloatArray:
    along, _ = _rotated(rng, height, width)
    return 0.5 + 0.5 * np.sin(along * 2 * np.pi / rng.uniform(60, 120))


PATTERNS: tuple[Callable[[np.random.Generator, int, int], FloatArray], ...] = (
    _stripes,
    _checks,
    _dots,
    _grain,
    _gradient,
)


def _vivid_colours(rng: np.random.Generator, kind: int, spec: ShapesSpec) -> FloatArray:
    """Random colours of the hues of a kind, their channels at least ``spec.vividness`` apart. [CANDIDATES, 3]."""
    high = rng.uniform(max(spec.vividness, 100), 250, CANDIDATES)
    low = rng.uniform(0, high - spec.vividness)
    hue = (kind % spec.hue_families + rng.uniform(*FAMILY_SPAN, CANDIDATES)) / spec.hue_families
    # From hue to the three channels: each is a trapezoid over the circle of hues.
    place = (np.array([5, 3, 1]) + 6 * hue[:, None]) % 6
    share = np.clip(np.minimum(place, 4 - place), 0, 1)
    return high[:, None] - (high - low)[:, None] * share


def object_surface(rng: np.random.Generator, surroundings: FloatArray, kind: int, spec: ShapesSpec) -> FloatArray:
    """A pattern of two shades of a random colour that stands out against what it is painted on.

    Args:
        surroundings: colours that both shades should differ from, [N, 3]; of several random colours, the one with the
            fewest nearer surroundings is taken.

    Returns:
        A surface of the size of the picture, [H, W, 3].
    """
    bright = _vivid_colours(rng, kind, spec)
    dark = bright * (1 - spec.texture)
    too_near = [
        (np.linalg.norm(surroundings[:, None] - shade, axis=2) < spec.contrast).mean(axis=0) for shade in (bright, dark)
    ]
    best = int(np.argmin(too_near[0] + too_near[1]))
    pattern = PATTERNS[rng.integers(len(PATTERNS))](rng, spec.height, spec.width)[..., None]
    return bright[best] * (1 - pattern) + dark[best] * pattern


def _sky(rng: np.random.Generator, height: int, width: int) -> FloatArray:
    zenith = rng.uniform((90, 140, 190), (170, 200, 255))
    horizon = rng.uniform((180, 190, 200), (245, 245, 255))
    clouds = np.clip(smooth_noise(rng, height, width, rng.uniform(20, 36)) * 2 - 0.9, 0, 1)[..., None]
    depth = np.linspace(0, 1, height)[:, None, None]
    return (zenith * (1 - depth) + horizon * depth) * (1 - 0.5 * clouds) + 127 * clouds


def _water(rng: np.random.Generator, height: int, width: int) -> FloatArray:
    base = rng.uniform((15, 60, 90), (70, 130, 170))
    phase = np.arange(height)[:, None] / rng.uniform(5, 8) + 1.2 * smooth_noise(rng, height, width, 14)
    return base + 18 * np.sin(2 * np.pi * phase)[..., None]


def _ground(rng: np.random.Generator, height: int, width: int) -> FloatArray:
    base = rng.uniform((85, 75, 30), (170, 150, 95))
    grain = 50 * (smooth_noise(rng, height, width, 3) - 0.5) + rng.normal(0, 13, (height, width))
    return base + grain[..., None]


STUFF_SURFACES = (_sky, _water, _ground)


def background(rng: np.random.Generator, spec: ShapesSpec) -> tuple[FloatArray, IndexArray]:
    """A landscape of one to three bands with wavy borders, and scribbles of no class.

    Returns:
        The colours, [H, W, 3], and for each pixel the index of its band's class in ``STUFF_CLASSES`` plus 1, or 0
        on a scribble, [H, W].
    """
    height, width = spec.height, spec.width
    bands = SCENES[rng.integers(len(SCENES))]
    cuts = np.arange(1, len(bands)) / len(bands) + rng.uniform(-0.13, 0.13, len(bands) - 1)
    level = np.zeros((height, width), dtype=np.int64)
    for cut in cuts:
        wave = smooth_noise(rng, 1, width, 24)[0] - 0.5
        border = height * (cut + 0.12 * wave) + rng.uniform(-0.15, 0.15) * (np.arange(width) - width / 2)
        level += np.arange(height)[:, None] >= border
    surfaces = np.stack([STUFF_SURFACES[band](rng, height, width) for band in bands])
    colours = np.take_along_axis(surfaces, level[None, ..., None], axis=0)[0] * rng.uniform(0.85, 1.15, 3)
    labels = (np.asarray(bands) + 1).astype(np.uint8)[level]
    for _ in range(rng.integers(spec.clutter[0], spec.clutter[1] + 1)):
        line = _scribble(rng, height, width)
        colours[line] = rng.uniform(15, 240, 3)
        labels[line] = 0
    grey = colours.mean(axis=2, keepdims=True)
    return grey + (1 - spec.muted) * (colours - grey), labels


def _scribble(rng: np.random.Generator, height: int, width: int) -> BoolArray:
    steps = int(rng.integers(30, 100))
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.12, steps))
    x = rng.uniform(0, width) + np.cumsum(np.cos(heading))
    y = rng.uniform(0, height) + np.cumsum(np.sin(heading))
    line = np.zeros((height, width), dtype=bool)
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        rows, columns = y.astype(np.int64) + row, x.astype(np.int64) + column
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        line[rows[inside], columns[inside]] = True
    return line
