"""One picture of the embedded data set: where its objects lie, how they hide one another, and their exact masks.

Only numpy draws here, from analytic outlines, so that a mask is right to the pixel and no drawing library decides it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from swin_backbone.datasets.generated import Instance, Picture
from swin_backbone.datasets.shapes_spec import CLASSES, ShapesSpec
from swin_backbone.datasets.shapes_textures import BoolArray, FloatArray, background, object_surface, smooth_noise
from swin_backbone.errors import InputError

SUPERSAMPLING = 3
PLACING_TRIES = 30
LAYOUT_TRIES = 30
# The outlines reach at most this far from their centre, in radii; the corners of a square are the farthest.
REACH = 1.25


@dataclass(frozen=True)
class _Sprite:
    """An object before it is painted: coverage of each pixel [H, W], and its area were nothing hidden or cut off."""

    kind: int
    cover: FloatArray
    area: float
    centre: tuple[float, float]
    size: float
    crowd: bool = False

    @property
    def mask(self) -> BoolArray:
        return self.cover >= 0.5


def _circle(u: FloatArray, v: FloatArray) -> BoolArray:
    return u * u + v * v <= 1


def _square(u: FloatArray, v: FloatArray) -> BoolArray:
    return np.maximum(abs(u), abs(v)) <= 0.85


def _triangle(u: FloatArray, v: FloatArray) -> BoolArray:
    return np.maximum(abs(u) * np.sqrt(3) - v, 2 * v) <= 1.15


def _star(u: FloatArray, v: FloatArray) -> BoolArray:
    # Five tips: fold the angle into half a tip, then one side of the line from the tip to the inner corner.
    tip, inner, half = 1.2, 0.52, np.pi / 5
    angle = abs((np.arctan2(u, v) + half) % (2 * half) - half)
    radius = np.hypot(u, v)
    along, across = radius * np.cos(angle), radius * np.sin(angle)
    return (along - tip) * inner * np.sin(half) <= across * (inner * np.cos(half) - tip)


def _ring(u: FloatArray, v: FloatArray) -> BoolArray:
    radius = np.hypot(u, v)
    return (radius <= 1) & (radius >= 0.55)


def _cross(u: FloatArray, v: FloatArray) -> BoolArray:
    return (np.minimum(abs(u), abs(v)) <= 0.31) & (np.maximum(abs(u), abs(v)) <= 1.05)


OUTLINES: dict[str, Callable[[FloatArray, FloatArray], BoolArray]] = {
    'circle': _circle,
    'square': _square,
    'triangle': _triangle,
    'star': _star,
    'ring': _ring,
    'cross': _cross,
}


def _draw(
    kind: int, centre: tuple[float, float], size: float, aspect: float, angle: float, height: int, width: int
) -> _Sprite:
    """Coverage of one object; only a window around it is computed, which may reach out of the picture."""
    stretch = np.sqrt(aspect)
    reach = REACH * size / 2 * stretch
    left, top = (int(np.floor(c - reach)) for c in centre)
    side = int(np.ceil(2 * reach)) + 2
    steps = (np.arange(side * SUPERSAMPLING) + 0.5) / SUPERSAMPLING
    x, y = np.meshgrid(left + steps - centre[0], top + steps - centre[1])
    u = (x * np.cos(angle) + y * np.sin(angle)) * 2 / size / stretch
    v = (y * np.cos(angle) - x * np.sin(angle)) * 2 / size * stretch
    inside = OUTLINES[CLASSES[kind]](u, v)
    window = inside.reshape(side, SUPERSAMPLING, side, SUPERSAMPLING).mean(axis=(1, 3))
    cover = np.zeros((height, width))
    rows, columns = top + np.arange(side), left + np.arange(side)
    in_rows, in_columns = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    cover[np.ix_(rows[in_rows], columns[in_columns])] = window[np.ix_(in_rows, in_columns)]
    return _Sprite(kind, cover, float((window >= 0.5).sum()), centre, size)


def _random_sprite(rng: np.random.Generator, spec: ShapesSpec, earlier: list[_Sprite]) -> _Sprite:
    smallest, largest = spec.object_size
    size = float(np.exp(rng.uniform(np.log(smallest), np.log(largest))))
    if earlier and rng.random() < spec.overlap:
        other = earlier[rng.integers(len(earlier))]
        direction = rng.uniform(0, 2 * np.pi)
        distance = rng.uniform(0.3, 0.55) * (size + other.size)
        x, y = other.centre[0] + distance * np.cos(direction), other.centre[1] + distance * np.sin(direction)
    else:
        x, y = rng.uniform(0, spec.width), rng.uniform(0, spec.height)
    # Keeps most of an object inside the picture.
    x = float(np.clip(x, 0.4 * size, spec.width - 0.4 * size))
    y = float(np.clip(y, 0.4 * size, spec.height - 0.4 * size))
    aspect = float(np.exp(rng.uniform(-1, 1) * np.log(spec.stretch)))
    kind = int(rng.integers(len(CLASSES)))
    return _draw(kind, (x, y), size, aspect, rng.uniform(0, 2 * np.pi), spec.height, spec.width)


def _random_crowd(rng: np.random.Generator, spec: ShapesSpec) -> _Sprite:
    """Members of one kind on a jittered lattice, wide enough apart to be told from one another by eye."""
    kind = int(rng.integers(len(CLASSES)))
    count = int(rng.integers(spec.crowd_objects[0], spec.crowd_objects[1] + 1))
    pitch = 1.3 * spec.crowd_size[1]
    extent = pitch * np.sqrt(count)
    centre = tuple(float(rng.uniform(min(0.5, 0.4 * extent / s), max(0.5, 1 - 0.4 * extent / s)) * s)
                   for s in (spec.width, spec.height))  # fmt: skip
    columns = int(np.ceil(np.sqrt(count)))
    members = []
    for index in range(count):
        row, column = divmod(index, columns)
        x = centre[0] + (column + 0.5 * (row % 2) - columns / 2 + rng.uniform(-0.12, 0.12)) * pitch
        y = centre[1] + (row - columns / 2 + rng.uniform(-0.12, 0.12)) * pitch
        size = rng.uniform(*spec.crowd_size)
        members.append(_draw(kind, (x, y), size, 1.0, rng.uniform(0, 2 * np.pi), spec.height, spec.width))
    cover = np.max([member.cover for member in members], axis=0)
    return _Sprite(kind, cover, sum(member.area for member in members), (centre[0], centre[1]), extent, crowd=True)


def _arrange(rng: np.random.Generator, spec: ShapesSpec, crowd: bool) -> tuple[list[_Sprite], list[BoolArray]] | None:
    """Sprites from back to front with their visible masks; None where they do not find room."""
    sprites = [_random_crowd(rng, spec)] if crowd else []
    visible = [sprite.mask for sprite in sprites]
    wanted = len(sprites) + int(rng.integers(spec.objects[0], spec.objects[1] + 1))
    failures = 0
    while len(sprites) < wanted:
        new = _random_sprite(rng, spec, sprites)
        masks = [mask & ~new.mask for mask in visible] + [new.mask]
        if all(_shows(mask, sprite, spec) for mask, sprite in zip(masks, [*sprites, new], strict=True)):
            sprites.append(new)
            visible, failures = masks, 0
        else:
            failures += 1
        if failures == PLACING_TRIES:
            return None
    return sprites, visible


def _shows(mask: BoolArray, sprite: _Sprite, spec: ShapesSpec) -> bool:
    return bool(mask.sum() >= max(spec.min_visible_pixels, spec.min_visible * sprite.area))


def _paint(rng: np.random.Generator, canvas: FloatArray, sprite: _Sprite, spec: ShapesSpec) -> FloatArray:
    rows, columns = np.nonzero(sprite.cover)
    around = canvas[max(rows.min() - 3, 0) : rows.max() + 4 : 2, max(columns.min() - 3, 0) : columns.max() + 4 : 2]
    surface = object_surface(rng, around.reshape(-1, 3), sprite.kind, spec)
    cover = sprite.cover[..., None]
    return canvas * (1 - cover) + surface * cover


def render(rng: np.random.Generator, spec: ShapesSpec, crowd: bool = False) -> Picture:
    """Draw one picture.

    Args:
        crowd: whether a crowd stands behind the objects.

    Raises:
        InputError: the objects that ``spec`` asks for do not fit into a picture.
    """
    layouts = (_arrange(rng, spec, crowd) for _ in range(LAYOUT_TRIES))
    layout = next((found for found in layouts if found is not None), None)
    if layout is None:
        raise InputError(
            f'{spec.objects[1]} objects of {spec.object_size[0]}..{spec.object_size[1]} pixels, each to '
            f'{spec.min_visible:.0%} visible, do not fit into {spec.width} x {spec.height} pixels: '
            'ask for fewer or smaller objects, or a larger picture.'
        )
    sprites, visible = layout
    canvas, semantic = background(rng, spec)
    semantic[semantic > 0] += len(CLASSES)
    for sprite, mask in zip(sprites, visible, strict=True):
        canvas = _paint(rng, canvas, sprite, spec)
        semantic[mask] = sprite.kind + 1
    light = 0.85 + 0.3 * smooth_noise(rng, spec.height, spec.width, max(spec.height, spec.width) / 2)
    canvas = canvas * light[..., None] + rng.normal(0, spec.noise, canvas.shape)
    instances = tuple(Instance(s.kind, mask, s.crowd) for s, mask in zip(sprites, visible, strict=True))
    return Picture(np.clip(np.rint(canvas), 0, 255).astype(np.uint8), semantic, instances)
