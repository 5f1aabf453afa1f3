"""The data set of the ablation demo: each shape is labelled with the colour of the next shape to its right.

Discs and rings in three colours are placed on a jittered grid, some places of which are empty. The class of a shape is
the colour of the nearest shape *of the same form* to its right within a few places, or 'last' if there is none. Its own
colour is independent of its class. To classify a shape, a network must

- carry information over distances larger than a window of the first stage, and across window borders in every stage:
  the position of the grid is random, so the relevant shape is often in the next window (shifted windows);
- distinguish right from left, above and below, and near from far (position encodings);
- compare forms, since shapes of the other form must be skipped (attention by content, not by position alone).

Flipping an image would change its classes: do not flip. The ground between the shapes is 0, 'other', and not scored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from swin_backbone.datasets.generated import (
    IDS_PER_IMAGE,
    MAX_IMAGES,
    Instance,
    LabelledImage,
    Spec,
    Summary,
    option,
    write_data_set,
)
from swin_backbone.datasets.generated_classes import ClassesSpec
from swin_backbone.errors import InputError

COLOURS = {'red': (205, 70, 70), 'green': (70, 180, 80), 'blue': (80, 90, 210)}
CLASSES = ('last', *(f'before {colour}' for colour in COLOURS))
PALETTE = ((150, 150, 150), *COLOURS.values())
GROUND = (120, 120, 120)
HOLE = 0.5  # radius of the hole of a ring, in radii of the ring

ROOT = Path('data/neighbours')
CLASSES_ROOT = Path('data/orders')
"""Data folders of the demo's configs, for the tasks and for pre-training."""


@dataclass(frozen=True)
class NeighboursSpec(Spec):
    """Options of the neighbours data set."""

    name = 'neighbours'
    classes = CLASSES
    supercategory = 'figure'

    train_count: int = option(600, 'number of training images', 1, MAX_IMAGES)
    val_count: int = option(100, 'number of validation images; they do not depend on --train-count', 1, MAX_IMAGES)
    pitch: int = option(21, 'distance between places of the grid in pixels', 1, 4096)
    radius: int = option(7, 'radius of a shape in pixels', 2, 100)
    jitter: float = option(2.0, 'maximum offset of a shape from its place along each axis in pixels', 0, 100)
    empty: float = option(0.15, 'share of the places that are empty', 0, 0.9)
    reach: int = option(3, 'places to the right that are searched for the next shape of the same form', 1, 100)
    noise: float = option(10.0, 'standard deviation of the noise of the pixels, of 255', 0, 255)

    def __post_init__(self) -> None:
        super().__post_init__()
        places = (self.height // self.pitch) * (self.width // self.pitch)
        if places >= IDS_PER_IMAGE:
            raise InputError(
                f'an image of a neighbours data set must have fewer than {IDS_PER_IMAGE} places, got {places}: '
                'use a larger pitch or smaller images.'
            )

    def limits(self) -> Mapping[str, tuple[float, float]]:
        """Limit the pitch so that shapes do not touch, and at least one place fits into the image."""
        return {'pitch': (2 * (self.radius + self.jitter) + 1, min(self.width, self.height))}

    def render(self, rng: np.random.Generator, index: int = 0) -> LabelledImage:
        """Draw an image; ``index`` is not used."""
        rows, columns = self.height // self.pitch, self.width // self.pitch
        colour = rng.integers(0, len(COLOURS), (rows, columns))
        colour[rng.random((rows, columns)) < self.empty] = -1
        ring = rng.random((rows, columns)) < 0.5
        kinds = classes_of(colour, ring, self.reach)

        return self.paint(rng, colour, ring, kinds)

    def paint(
        self, rng: np.random.Generator, colour: NDArray[np.int64], ring: NDArray[np.bool_], kinds: NDArray[np.int64]
    ) -> LabelledImage:
        """Draw the shapes of a grid.

        Args:
            rng: random generator for the places and the noise.
            colour: index of the colour, -1 at an empty place, [rows, columns].
            ring: the form, [rows, columns].
            kinds: index of the class, [rows, columns].
        """
        rows, columns = colour.shape
        image = np.full((self.height, self.width, 3), GROUND, dtype=np.float64)
        semantic = np.zeros((self.height, self.width), np.uint8)
        instances = []
        y, x = np.mgrid[: self.height, : self.width]
        top, left = rng.uniform(0, (self.height - rows * self.pitch, self.width - columns * self.pitch))
        for row, column in np.ndindex(rows, columns):
            down, right = rng.uniform(-self.jitter, self.jitter, 2)
            if colour[row, column] < 0:
                continue
            distance = np.hypot(
                y - (top + (row + 0.5) * self.pitch + down), x - (left + (column + 0.5) * self.pitch + right)
            )
            mask = (distance <= self.radius) & (~ring[row, column] | (distance >= HOLE * self.radius))
            image[mask] = list(COLOURS.values())[colour[row, column]]
            semantic[mask] = kinds[row, column] + 1
            instances.append(Instance(int(kinds[row, column]), mask))
        image += rng.normal(0, self.noise, image.shape)
        return LabelledImage(image.clip(0, 255).astype(np.uint8), semantic, tuple(instances))


def classes_of(colour: NDArray[np.int64], ring: NDArray[np.bool_], reach: int) -> NDArray[np.int64]:
    """Return the class of the shape at every place of a grid.

    Args:
        colour: index of the colour, -1 at an empty place, [rows, columns].
        ring: the form, [rows, columns].
        reach: number of places to the right that are searched.

    Returns:
        Index into :data:`CLASSES`, -1 at an empty place, [rows, columns].
    """
    columns = colour.shape[1]
    kinds = np.where(colour >= 0, 0, -1)
    # From far to near, so that the nearest overwrites the others.
    for distance in range(min(reach, columns - 1), 0, -1):
        here, there = np.s_[:, : columns - distance], np.s_[:, distance:]
        counts = (colour[here] >= 0) & (colour[there] >= 0) & (ring[here] == ring[there])
        kinds[here] = np.where(counts, colour[there] + 1, kinds[here])
    return kinds


@dataclass(frozen=True)
class OrdersSpec(ClassesSpec):
    """Options of the demo's pre-training data; the class of an image is the order of the colours in its rows.

    From each shape to the next *of the same form* on its right, the colour advances by the same number of steps (red,
    green, blue, red, ...) in the whole image; this number is the class. The first colour of a row is random for each
    form, as are forms and empty places.
    """

    name = 'orders'
    classes = ('equal', 'forward', 'backward')
    supercategory = 'order'

    train_count: int = option(3000, 'number of training images', 1, MAX_IMAGES)
    val_count: int = option(300, 'number of validation images; they do not depend on --train-count', 1, MAX_IMAGES)
    width: int = option(64, 'width of an image in pixels', 42, 4096)
    height: int = option(64, 'height of an image in pixels', 42, 4096)

    def draw(self, rng: np.random.Generator, kind: int) -> NDArray[np.uint8]:
        """Draw an image whose colours advance by ``kind`` steps."""
        scene = NeighboursSpec(width=self.width, height=self.height)
        rows, columns = self.height // scene.pitch, self.width // scene.pitch
        empty, ring = rng.random((rows, columns)) < scene.empty, rng.random((rows, columns)) < 0.5
        colour = np.full((rows, columns), -1)
        for form in (ring, ~ring):
            shapes = form & ~empty
            starts = rng.integers(0, len(COLOURS), (rows, 1))
            steps = starts + kind * (shapes.cumsum(axis=1) - 1)
            colour[shapes] = (steps % len(COLOURS))[shapes]
        return scene.paint(rng, colour, ring, np.zeros_like(colour)).image


def write_neighbours(root: Path, spec: NeighboursSpec | None = None) -> Summary:
    """Generate the neighbours data set, see :func:`swin_backbone.datasets.generated.write_data_set`."""
    return write_data_set(root, spec or NeighboursSpec())


def make_data(root: str | None = None) -> Path:
    """Generate the data with default options unless they exist; return their folder."""
    folder = Path(root) if root else ROOT
    write_neighbours(folder)
    return folder


def make_classes(root: str | None = None) -> Path:
    """Generate the pre-training data with default options unless they exist; return their folder."""
    folder = Path(root) if root else CLASSES_ROOT
    write_data_set(folder, OrdersSpec())
    return folder
