"""The data set of the ablations' demo: what a figure is called depends on what stands to the right of it.

Discs and rings in three colours stand in a loose grid, some places are empty. The class of a figure is the colour of
the nearest figure *of its own form* to its right, within a few places; or 'last' where there is none. Its own colour
says nothing about it. Hence, to name a figure, a network must

- carry information over distances larger than a window of the first stage, and across the borders of the windows of
  every stage: the figures stand anywhere, so the one that counts is often in the next window (shifted windows);
- tell right from left, above and below, and near from far (position encodings);
- compare forms, since the other form is to be skipped (attention by content, not by position alone).

Mirrored pictures would have other classes: do not flip them. The ground between the figures is 0, 'other', and not
scored, so that a score is about this and nothing else.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swin_backbone.datasets.generated import (
    IDS_PER_PICTURE,
    MAX_PICTURES,
    GeneratedSummary,
    Generator,
    Instance,
    Picture,
    read_generated,
    write_generated,
)
from swin_backbone.datasets.knobs import check_ranges, knob
from swin_backbone.errors import InputError

COLOURS = {'red': (205, 70, 70), 'green': (70, 180, 80), 'blue': (80, 90, 210)}
CLASSES = ('last', *(f'before {colour}' for colour in COLOURS))
PALETTE = ((150, 150, 150), *COLOURS.values())
GROUND = (120, 120, 120)
HOLE = 0.5
"""Radius of a ring's hole, as a share of the ring's."""


@dataclass(frozen=True)
class NeighboursSpec:
    """Everything that decides the data set: equal specs give equal bytes.

    The meaning of each field stands in its metadata, which the command line shows as help.

    Raises:
        InputError: a value that no picture can satisfy.
    """

    seed: int = knob(0, 'seed of all random choices')
    train_count: int = knob(600, 'training pictures')
    val_count: int = knob(100, 'validation pictures; the same ones for any number of training pictures')
    width: int = knob(128, 'width of a picture in pixels')
    height: int = knob(128, 'height of a picture in pixels')
    pitch: int = knob(21, 'distance of the places of the grid in pixels')
    radius: int = knob(7, 'radius of a figure in pixels')
    jitter: float = knob(2.0, 'largest distance of a figure from its place along each axis in pixels')
    empty: float = knob(0.15, 'share of the places that are empty')
    reach: int = knob(3, 'places to the right among which the nearest figure of the same form counts')
    noise: float = knob(10.0, "standard deviation of the pixels' noise, of 255")

    def __post_init__(self) -> None:
        ranges = (
            ('seed', 0, 2**63),
            ('train_count', 1, MAX_PICTURES),
            ('val_count', 1, MAX_PICTURES),
            ('width', 32, 4096),
            ('height', 32, 4096),
            ('radius', 2, 100),
            ('jitter', 0, 100),
            ('pitch', 2 * (self.radius + self.jitter) + 1, min(self.width, self.height)),
            ('empty', 0, 0.9),
            ('reach', 1, 100),
            ('noise', 0, 255),
        )
        check_ranges('neighbours', self, ranges)
        places = (self.height // self.pitch) * (self.width // self.pitch)
        if places >= IDS_PER_PICTURE:
            raise InputError(
                f'a picture of a neighbours data set has fewer than {IDS_PER_PICTURE} places, '
                f'{places} are asked for: make the pitch larger or the pictures smaller.'
            )

    def as_json(self) -> dict[str, Any]:
        """The fields as they read back from a JSON file."""
        return asdict(self)


def write_neighbours(root: Path, spec: NeighboursSpec | None = None) -> GeneratedSummary:
    """Make the data set under ``root``, or leave it as it is where ``root`` holds the same one already.

    Raises:
        InputError: ``root`` holds anything else, cannot be written, or Pillow is missing.
    """
    return write_generated(root, NEIGHBOURS, spec or NeighboursSpec())


def read_neighbours(root: Path, spec: NeighboursSpec | None = None) -> GeneratedSummary | None:
    """The summary of the data set that ``root`` holds, or None where ``root`` is empty or does not exist.

    Raises:
        InputError: ``root`` holds another data set, other files, or lacks files of this one.
    """
    return read_generated(root, NEIGHBOURS, spec or NeighboursSpec())


def classes_of(colour: NDArray[np.int64], ring: NDArray[np.bool_], reach: int) -> NDArray[np.int64]:
    """The class of the figure at every place of a grid.

    Args:
        colour: index of the colour, -1 where a place is empty, [rows, columns].
        ring: the form, [rows, columns].
        reach: how many places to the right count.

    Returns:
        Index into :data:`CLASSES`, -1 where a place is empty, [rows, columns].
    """
    columns = colour.shape[1]
    kinds = np.where(colour >= 0, 0, -1)
    # From far to near, so that the nearest has the last word.
    for distance in range(min(reach, columns - 1), 0, -1):
        here, there = np.s_[:, : columns - distance], np.s_[:, distance:]
        counts = (colour[here] >= 0) & (colour[there] >= 0) & (ring[here] == ring[there])
        kinds[here] = np.where(counts, colour[there] + 1, kinds[here])
    return kinds


def render(rng: np.random.Generator, spec: NeighboursSpec, index: int = 0) -> Picture:
    """One picture; ``index`` does not matter, every picture is of the same kind."""
    rows, columns = spec.height // spec.pitch, spec.width // spec.pitch
    colour = rng.integers(0, len(COLOURS), (rows, columns))
    colour[rng.random((rows, columns)) < spec.empty] = -1
    ring = rng.random((rows, columns)) < 0.5
    kinds = classes_of(colour, ring, spec.reach)

    image = np.empty((spec.height, spec.width, 3))
    image[:] = GROUND
    semantic = np.zeros((spec.height, spec.width), np.uint8)
    instances = []
    for (row, column), distance in _figures(rng, spec, rows, columns):
        if colour[row, column] < 0:
            continue
        mask = (distance <= spec.radius) & (~ring[row, column] | (distance >= HOLE * spec.radius))
        image[mask] = list(COLOURS.values())[colour[row, column]]
        semantic[mask] = kinds[row, column] + 1
        instances.append(Instance(int(kinds[row, column]), mask))
    image += rng.normal(0, spec.noise, image.shape)
    return Picture(image.clip(0, 255).astype(np.uint8), semantic, tuple(instances))


def _figures(
    rng: np.random.Generator, spec: NeighboursSpec, rows: int, columns: int
) -> Iterator[tuple[tuple[int, int], NDArray[np.float64]]]:
    """Every place of the grid, which lies anywhere in the picture, with the distance of all pixels from its figure."""
    y, x = np.mgrid[: spec.height, : spec.width]
    top, left = rng.uniform(0, (spec.height - rows * spec.pitch, spec.width - columns * spec.pitch))
    for row in range(rows):
        for column in range(columns):
            down, right = rng.uniform(-spec.jitter, spec.jitter, 2)
            centre_y = top + (row + 0.5) * spec.pitch + down
            centre_x = left + (column + 0.5) * spec.pitch + right
            yield (row, column), np.hypot(y - centre_y, x - centre_x)


NEIGHBOURS = Generator('neighbours', 1, CLASSES, 'figure', render)


ROOT = Path('data/neighbours')
"""Where the demo's configs look for them."""


def make_data(root: str | None = None) -> Path:
    """Make the data, unless they are complete already; returns their folder."""
    folder = Path(root) if root else ROOT
    write_neighbours(folder)
    return folder
