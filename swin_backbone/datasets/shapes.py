"""The generated data set of the demos: images with overlapping, textured shapes.

The shapes are classes of detection and segmentation. In the label maps, the background has the classes sky, water and
ground; scribbles are 0, 'other'. Images are drawn with numpy alone, so masks are exact. Colours are floats in 0..255.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from swin_backbone.datasets.generated import BoolArray, Instance, LabelledImage, Spec, Summary, option, write_data_set
from swin_backbone.errors import InputError

Colour = tuple[int, int, int]
FloatArray = NDArray[np.float64]

CLASSES = ('circle', 'square', 'triangle', 'star', 'ring', 'cross')
PALETTE: tuple[Colour, ...] = (
    (220, 40, 60),
    (0, 120, 200),
    (250, 180, 30),
    (150, 60, 190),
    (40, 170, 90),
    (240, 110, 170),
)
STUFF_CLASSES = ('sky', 'water', 'ground')
SEGMENTATION_CLASSES = CLASSES + STUFF_CLASSES
"""The classes of the label maps: value ``i + 1`` is class ``i``, 0 is 'other' (ADE20K's ``reduce_zero_label``)."""

SEGMENTATION_PALETTE: tuple[Colour, ...] = (*PALETTE, (150, 200, 240), (40, 70, 130), (130, 110, 70))

SUPERSAMPLING = 3
REACH = 1.25  # distance of the farthest point of any shape (the corner of a square) from its centre, in radii
TRIES = 30  # attempts to place an object, and to arrange all objects of an image
SCENES = ((0, 2), (0, 1), (0, 1, 2), (1, 2), (2,), (0, 2), (0, 1))  # bands of STUFF_CLASSES from top to bottom
CANDIDATES = 16  # random colours, of which the most visible one is used for an object
HUE_SPAN = (0.15, 0.85)  # used part of the hue range of a family; the rest is a gap between families


@dataclass(frozen=True)
class ShapesSpec(Spec):
    """Options of the shapes data set."""

    name = 'shapes'
    classes = CLASSES
    supercategory = 'shape'

    objects: tuple[int, int] = option((1, 5), 'objects in an image, without crowds', 1, 90)
    object_size: tuple[int, int] = option((24, 72), 'diameter of an object in pixels, log-uniform', 8, 4096)
    stretch: float = option(1.2, 'maximum aspect ratio of an object; 1 keeps all regular', 1, 3)
    overlap: float = option(0.3, 'share of the objects that are placed close to an earlier one', 0, 1)
    min_visible: float = option(0.5, 'minimum visible share of the area of an object', 0, 0.9)
    min_visible_pixels: int = option(24, 'minimum visible area of an object in pixels', 1, 4096**2)
    contrast: float = option(80.0, 'RGB distance between an object and what it covers', 0, 255)
    vividness: float = option(110.0, 'minimum range of the RGB channels of a colour of an object', 0, 240)
    hue_families: int = option(
        6, 'groups of classes that share their hues: with 1 all share all hues, with 6 none do', 1, len(CLASSES)
    )
    texture: float = option(0.35, 'how much darker the second shade of an object is; 0 disables textures', 0, 1)
    muted: float = option(0.6, 'share of the saturation that backgrounds lose', 0, 1)
    clutter: tuple[int, int] = option((0, 4), 'unlabelled scribbles in a background', 0, 100)
    noise: float = option(4.0, 'standard deviation of the noise of the pixels, of 255', 0, 255)
    crowd_share: float = option(0.05, 'share of the images with a crowd', 0, 1)
    crowd_objects: tuple[int, int] = option((12, 24), 'objects in a crowd', 2, 500)
    crowd_size: tuple[int, int] = option((7, 10), 'diameter of an object of a crowd in pixels', 4, 4096)

    def limits(self) -> Mapping[str, tuple[float, float]]:
        """Limit objects to the size of the image."""
        side = min(self.width, self.height)
        return {'object_size': (8, side), 'crowd_size': (4, side), 'min_visible_pixels': (1, side**2)}

    def render(self, rng: np.random.Generator, index: int) -> LabelledImage:
        """Draw an image; crowds are spread evenly, so a split of ``1 / crowd_share`` images has at least one."""
        return render(rng, self, crowd=int((index + 1) * self.crowd_share) > int(index * self.crowd_share))


def write_shapes(root: Path, spec: ShapesSpec | None = None) -> Summary:
    """Generate the shapes data set, see :func:`swin_backbone.datasets.generated.write_data_set`."""
    return write_data_set(root, spec or ShapesSpec())


def render(rng: np.random.Generator, spec: ShapesSpec, crowd: bool = False) -> LabelledImage:
    """Draw an image; with ``crowd``, a crowd is behind the objects.

    Raises:
        InputError: if the objects do not fit into the image.
    """
    arrangements = (_arrange(rng, spec, crowd) for _ in range(TRIES))
    found = next((arrangement for arrangement in arrangements if arrangement is not None), None)
    if found is None:
        raise InputError(
            f'{spec.objects[1]} objects of {spec.object_size[0]}..{spec.object_size[1]} pixels, each to '
            f'{spec.min_visible:.0%} visible, do not fit into {spec.width} x {spec.height} pixels: '
            'use fewer or smaller objects, or a larger image.'
        )
    canvas, semantic = background(rng, spec)
    semantic[semantic > 0] += len(CLASSES)
    for sprite, mask in found:
        rows, columns = np.nonzero(sprite.cover)
        around = canvas[max(rows.min() - 3, 0) : rows.max() + 4 : 2, max(columns.min() - 3, 0) : columns.max() + 4 : 2]
        surface, cover = object_surface(rng, around.reshape(-1, 3), sprite.kind, spec), sprite.cover[..., None]
        canvas = canvas * (1 - cover) + surface * cover
        semantic[mask] = sprite.kind + 1
    light = 0.85 + 0.3 * smooth_noise(rng, spec.height, spec.width, max(spec.height, spec.width) / 2)
    canvas = canvas * light[..., None] + rng.normal(0, spec.noise, canvas.shape)
    instances = tuple(Instance(sprite.kind, mask, sprite.crowd) for sprite, mask in found)
    return LabelledImage(np.clip(np.rint(canvas), 0, 255).astype(np.uint8), semantic, instances)


@dataclass(frozen=True)
class _Sprite:
    """An object without its colours.

    Attributes:
        cover: covered fraction of each pixel, [H, W].
        area: area in pixels, including hidden parts and parts outside the image.
        centre: x and y in pixels.
        size: diameter in pixels.
    """

    kind: int
    cover: FloatArray
    area: float
    centre: tuple[float, float]
    size: float
    crowd: bool = False


def _arrange(rng: np.random.Generator, spec: ShapesSpec, crowd: bool) -> list[tuple[_Sprite, BoolArray]] | None:
    """Return sprites from back to front with their visible masks; None if they do not fit."""
    sprites = [_random_crowd(rng, spec)] if crowd else []
    visible = [sprite.cover >= 0.5 for sprite in sprites]
    wanted = len(sprites) + int(rng.integers(spec.objects[0], spec.objects[1] + 1))
    failures = 0
    while len(sprites) < wanted:
        new = _random_sprite(rng, spec, sprites)
        masks = [mask & (new.cover < 0.5) for mask in visible] + [new.cover >= 0.5]
        if all(
            mask.sum() >= max(spec.min_visible_pixels, spec.min_visible * sprite.area)
            for mask, sprite in zip(masks, [*sprites, new], strict=True)
        ):
            sprites.append(new)
            visible, failures = masks, 0
        else:
            failures += 1
        if failures == TRIES:
            return None
    return list(zip(sprites, visible, strict=True))


def _random_sprite(rng: np.random.Generator, spec: ShapesSpec, earlier: list[_Sprite]) -> _Sprite:
    """Return a random object that is mostly inside the image."""
    size = float(np.exp(rng.uniform(*np.log(spec.object_size))))
    if earlier and rng.random() < spec.overlap:
        other = earlier[rng.integers(len(earlier))]
        direction = rng.uniform(0, 2 * np.pi)
        distance = rng.uniform(0.3, 0.55) * (size + other.size)
        x, y = other.centre[0] + distance * np.cos(direction), other.centre[1] + distance * np.sin(direction)
    else:
        x, y = rng.uniform(0, spec.width), rng.uniform(0, spec.height)
    x = float(np.clip(x, 0.4 * size, spec.width - 0.4 * size))
    y = float(np.clip(y, 0.4 * size, spec.height - 0.4 * size))
    aspect = float(np.exp(rng.uniform(-1, 1) * np.log(spec.stretch)))
    kind = int(rng.integers(len(CLASSES)))
    return _sprite(spec, kind, (x, y), size, aspect, rng.uniform(0, 2 * np.pi))


def _random_crowd(rng: np.random.Generator, spec: ShapesSpec) -> _Sprite:
    """Return a crowd: objects of one class on a jittered lattice, far enough apart to be distinguished."""
    kind = int(rng.integers(len(CLASSES)))
    count = int(rng.integers(spec.crowd_objects[0], spec.crowd_objects[1] + 1))
    pitch = 1.3 * spec.crowd_size[1]
    extent = pitch * np.sqrt(count)
    shares = [min(0.5, 0.4 * extent / side) for side in (spec.width, spec.height)]
    left, top = (
        float(rng.uniform(share, max(0.5, 1 - 0.4 * extent / side)) * side)
        for share, side in zip(shares, (spec.width, spec.height), strict=True)
    )
    columns = int(np.ceil(np.sqrt(count)))
    members = []
    for index in range(count):
        row, column = divmod(index, columns)
        x = left + (column + 0.5 * (row % 2) - columns / 2 + rng.uniform(-0.12, 0.12)) * pitch
        y = top + (row - columns / 2 + rng.uniform(-0.12, 0.12)) * pitch
        size = rng.uniform(*spec.crowd_size)
        members.append(_sprite(spec, kind, (x, y), size, 1.0, rng.uniform(0, 2 * np.pi)))
    cover = np.max([member.cover for member in members], axis=0)
    return _Sprite(kind, cover, sum(member.area for member in members), (left, top), extent, crowd=True)


def _sprite(
    spec: ShapesSpec, kind: int, centre: tuple[float, float], size: float, aspect: float, angle: float
) -> _Sprite:
    """Rasterise an object, in a window around it that may extend beyond the image."""
    stretch = np.sqrt(aspect)
    reach = REACH * size / 2 * stretch
    left, top = (int(np.floor(c - reach)) for c in centre)
    side = int(np.ceil(2 * reach)) + 2
    steps = (np.arange(side * SUPERSAMPLING) + 0.5) / SUPERSAMPLING
    x, y = np.meshgrid(left + steps - centre[0], top + steps - centre[1])
    u = (x * np.cos(angle) + y * np.sin(angle)) * 2 / size / stretch
    v = (y * np.cos(angle) - x * np.sin(angle)) * 2 / size * stretch
    window = inside(CLASSES[kind], u, v).reshape(side, SUPERSAMPLING, side, SUPERSAMPLING).mean(axis=(1, 3))
    cover = np.zeros((spec.height, spec.width))
    rows, columns = top + np.arange(side), left + np.arange(side)
    in_rows, in_columns = (rows >= 0) & (rows < spec.height), (columns >= 0) & (columns < spec.width)
    cover[np.ix_(rows[in_rows], columns[in_columns])] = window[np.ix_(in_rows, in_columns)]
    return _Sprite(kind, cover, float((window >= 0.5).sum()), centre, size)


def inside(name: str, u: FloatArray, v: FloatArray) -> BoolArray:
    """Whether points, in units of the radius from the centre, are inside a shape."""
    if name == 'circle':
        return u * u + v * v <= 1
    if name == 'square':
        return np.maximum(abs(u), abs(v)) <= 0.85
    if name == 'triangle':
        return np.maximum(abs(u) * np.sqrt(3) - v, 2 * v) <= 1.15
    if name == 'cross':
        return (np.minimum(abs(u), abs(v)) <= 0.31) & (np.maximum(abs(u), abs(v)) <= 1.05)
    radius = np.hypot(u, v)
    if name == 'ring':
        return (radius <= 1) & (radius >= 0.55)
    # A star: fold the angle into half a tip, then take one side of the line from the tip to the inner corner.
    tip, inner, half = 1.2, 0.52, np.pi / 5
    angle = abs((np.arctan2(u, v) + half) % (2 * half) - half)
    along, across = radius * np.cos(angle), radius * np.sin(angle)
    return (along - tip) * inner * np.sin(half) <= across * (inner * np.cos(half) - tip)


def object_surface(rng: np.random.Generator, surroundings: FloatArray, kind: int, spec: ShapesSpec) -> FloatArray:
    """Return a pattern of two shades of a random colour with a hue of the class, [H, W, 3].

    Args:
        surroundings: colours that both shades should differ from, [N, 3]; of several random colours, the one with the
            fewest similar surroundings is used.
    """
    high = rng.uniform(max(spec.vividness, 100), 250, CANDIDATES)
    low = rng.uniform(0, high - spec.vividness)
    hue = (kind % spec.hue_families + rng.uniform(*HUE_SPAN, CANDIDATES)) / spec.hue_families
    # From hue to the three channels: each is a trapezoid over the circle of hues.
    place = (np.array([5, 3, 1]) + 6 * hue[:, None]) % 6
    bright = high[:, None] - (high - low)[:, None] * np.clip(np.minimum(place, 4 - place), 0, 1)
    dark = bright * (1 - spec.texture)
    too_near = [
        (np.linalg.norm(surroundings[:, None] - shade, axis=2) < spec.contrast).mean(axis=0) for shade in (bright, dark)
    ]
    best = int(np.argmin(too_near[0] + too_near[1]))
    share = _pattern(rng, spec.height, spec.width)[..., None]
    return bright[best] * (1 - share) + dark[best] * share


def _pattern(rng: np.random.Generator, height: int, width: int) -> FloatArray:
    """Return random stripes, checks, dots, grain or waves with values in 0..1, [H, W]."""
    kind = ('stripes', 'checks', 'dots', 'grain', 'waves')[rng.integers(5)]
    if kind == 'grain':
        return smooth_noise(rng, height, width, rng.uniform(1.5, 4))
    angle = rng.uniform(0, np.pi)
    x, y = np.meshgrid(np.arange(width) + rng.uniform(0, 64), np.arange(height) + rng.uniform(0, 64))
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    if kind == 'stripes':
        return (along / rng.uniform(4, 8) % 1 < 0.5).astype(np.float64)
    if kind == 'checks':
        side = rng.uniform(3, 6)
        return (np.floor(along / side) + np.floor(across / side)) % 2
    if kind == 'dots':
        pitch = rng.uniform(5, 8)
        return (np.hypot(along / pitch % 1 - 0.5, across / pitch % 1 - 0.5) < 0.3).astype(np.float64)
    return 0.5 + 0.5 * np.sin(along * 2 * np.pi / rng.uniform(60, 120))


def background(rng: np.random.Generator, spec: ShapesSpec) -> tuple[FloatArray, NDArray[np.uint8]]:
    """Draw a landscape of one to three bands with wavy borders, and scribbles.

    Returns:
        The colours, [H, W, 3], and 1 + the index into :data:`STUFF_CLASSES`, or 0 on a scribble, [H, W].
    """
    height, width = spec.height, spec.width
    bands = SCENES[rng.integers(len(SCENES))]
    cuts = np.arange(1, len(bands)) / len(bands) + rng.uniform(-0.13, 0.13, len(bands) - 1)
    level = np.zeros((height, width), dtype=np.int64)
    for cut in cuts:
        wave = smooth_noise(rng, 1, width, 24)[0] - 0.5
        border = height * (cut + 0.12 * wave) + rng.uniform(-0.15, 0.15) * (np.arange(width) - width / 2)
        level += np.arange(height)[:, None] >= border
    surfaces = np.stack([_stuff_surface(rng, STUFF_CLASSES[band], height, width) for band in bands])
    colours = np.take_along_axis(surfaces, level[None, ..., None], axis=0)[0] * rng.uniform(0.85, 1.15, 3)
    labels = (np.asarray(bands) + 1).astype(np.uint8)[level]
    for _ in range(rng.integers(spec.clutter[0], spec.clutter[1] + 1)):
        line = _scribble(rng, height, width)
        colours[line] = rng.uniform(15, 240, 3)
        labels[line] = 0
    grey = colours.mean(axis=2, keepdims=True)
    return grey + (1 - spec.muted) * (colours - grey), labels


def _stuff_surface(rng: np.random.Generator, name: str, height: int, width: int) -> FloatArray:
    """Return the colours of a background class, [H, W, 3]."""
    if name == 'sky':
        zenith, horizon = rng.uniform((90, 140, 190), (170, 200, 255)), rng.uniform((180, 190, 200), (245, 245, 255))
        clouds = np.clip(smooth_noise(rng, height, width, rng.uniform(20, 36)) * 2 - 0.9, 0, 1)[..., None]
        depth = np.linspace(0, 1, height)[:, None, None]
        return (zenith * (1 - depth) + horizon * depth) * (1 - 0.5 * clouds) + 127 * clouds
    if name == 'water':
        base = rng.uniform((15, 60, 90), (70, 130, 170))
        phase = np.arange(height)[:, None] / rng.uniform(5, 8) + 1.2 * smooth_noise(rng, height, width, 14)
        return base + 18 * np.sin(2 * np.pi * phase)[..., None]
    base = rng.uniform((85, 75, 30), (170, 150, 95))
    grain = 50 * (smooth_noise(rng, height, width, 3) - 0.5) + rng.normal(0, 13, (height, width))
    return base + grain[..., None]


def _scribble(rng: np.random.Generator, height: int, width: int) -> BoolArray:
    """Return the mask of a random curve, two pixels wide, [H, W]."""
    steps = int(rng.integers(30, 100))
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.12, steps))
    x = rng.uniform(0, width) + np.cumsum(np.cos(heading))
    y = rng.uniform(0, height) + np.cumsum(np.sin(heading))
    line = np.zeros((height, width), dtype=bool)
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        rows, columns = y.astype(np.int64) + row, x.astype(np.int64) + column
        visible = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        line[rows[visible], columns[visible]] = True
    return line


def smooth_noise(rng: np.random.Generator, height: int, width: int, cell: float) -> FloatArray:
    """Return smoothly interpolated noise in 0..1 that changes over about ``cell`` pixels, [H, W]."""
    grid = rng.random((int(height / cell) + 2, int(width / cell) + 2))
    row_position, column_position = np.arange(height) / cell, np.arange(width) / cell
    rows, columns = row_position.astype(np.int64), column_position.astype(np.int64)
    row_weight, column_weight = row_position - rows, column_position - columns
    row_weight = (row_weight * row_weight * (3 - 2 * row_weight))[:, None]
    column_weight = column_weight * column_weight * (3 - 2 * column_weight)
    upper = grid[rows] * (1 - row_weight) + grid[rows + 1] * row_weight
    return upper[:, columns] * (1 - column_weight) + upper[:, columns + 1] * column_weight
