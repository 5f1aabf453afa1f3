"""What the embedded data set holds: its classes, its colours, and every parameter of its generator."""

from dataclasses import asdict, dataclass
from typing import Any

from swin_backbone.datasets.generated import MAX_PICTURES
from swin_backbone.datasets.knobs import check_ranges, knob
from swin_backbone.errors import InputError

Colour = tuple[int, int, int]

CLASSES = ('circle', 'square', 'triangle', 'star', 'ring', 'cross')
"""The countable kinds; COCO's category ids are 1..6 in this order."""

PALETTE: tuple[Colour, ...] = (
    (220, 40, 60),
    (0, 120, 200),
    (250, 180, 30),
    (150, 60, 190),
    (40, 170, 90),
    (240, 110, 170),
)

STUFF_CLASSES = ('sky', 'water', 'ground')
"""What a background consists of; only the semantic maps know it."""

SEGMENTATION_CLASSES = CLASSES + STUFF_CLASSES
"""The classes of the index PNGs: value ``i + 1`` is class ``i``, 0 is 'other' (ADE20K's ``reduce_zero_label``)."""

SEGMENTATION_PALETTE: tuple[Colour, ...] = (*PALETTE, (150, 200, 240), (40, 70, 130), (130, 110, 70))

MAX_OBJECTS = 90


@dataclass(frozen=True)
class ShapesSpec:
    """Everything that decides the data set: equal specs give equal bytes.

    Pairs are inclusive ranges. The meaning of each field stands in its metadata, which the command line shows as help.

    Raises:
        InputError: a value that no picture can satisfy.
    """

    seed: int = knob(0, 'seed of all random choices')
    train_count: int = knob(400, 'training pictures')
    val_count: int = knob(80, 'validation pictures; the same ones for any number of training pictures')
    width: int = knob(128, 'width of a picture in pixels')
    height: int = knob(128, 'height of a picture in pixels')
    objects: tuple[int, int] = knob((1, 5), 'least and most objects in a picture, crowds not counted')
    object_size: tuple[int, int] = knob((24, 72), 'least and largest diameter of an object in pixels, log-uniform')
    stretch: float = knob(1.2, 'largest ratio of the sides of a stretched object; 1 keeps all of them regular')
    overlap: float = knob(0.3, 'share of the objects that are set close to an earlier one')
    min_visible: float = knob(0.5, 'least visible share of the area of an object')
    min_visible_pixels: int = knob(24, 'least visible area of an object in pixels')
    contrast: float = knob(80.0, 'distance in RGB that the colours of an object keep from what they are painted on')
    vividness: float = knob(110.0, "least distance between the red, green and blue of an object's colour, of 255")
    hue_families: int = knob(6, 'groups of kinds that share their hues; 1 gives every kind every hue, 6 each its own')
    texture: float = knob(0.35, 'how much darker the second shade of an object is; 0 paints plain objects')
    muted: float = knob(0.6, 'share of their colour that backgrounds lose; 0 leaves them as colourful as objects')
    clutter: tuple[int, int] = knob((0, 4), 'least and most unlabelled scribbles in a background')
    noise: float = knob(4.0, "standard deviation of the pixels' noise, of 255")
    crowd_share: float = knob(0.05, 'share of the pictures that hold a crowd')
    crowd_objects: tuple[int, int] = knob((12, 24), 'least and most members of a crowd')
    crowd_size: tuple[int, int] = knob((7, 10), "least and largest diameter of a crowd's members in pixels")

    def __post_init__(self) -> None:
        shorter = min(self.width, self.height)
        ranges = (
            ('seed', 0, 2**63),
            ('train_count', 1, MAX_PICTURES),
            ('val_count', 1, MAX_PICTURES),
            ('width', 32, 4096),
            ('height', 32, 4096),
            ('stretch', 1, 3),
            ('overlap', 0, 1),
            ('min_visible', 0, 0.9),
            ('min_visible_pixels', 1, shorter * shorter),
            ('contrast', 0, 255),
            ('vividness', 0, 240),
            ('hue_families', 1, len(CLASSES)),
            ('texture', 0, 1),
            ('muted', 0, 1),
            ('noise', 0, 255),
            ('crowd_share', 0, 1),
        )
        check_ranges('shapes', self, ranges)
        for name, low, high in (
            ('objects', 1, MAX_OBJECTS),
            ('object_size', 8, shorter),
            ('clutter', 0, 100),
            ('crowd_objects', 2, 500),
            ('crowd_size', 4, shorter),
        ):
            least, most = getattr(self, name)
            if not low <= least <= most <= high:
                raise InputError(
                    f'{name} of a shapes data set must be the least and the most, both in {low}..{high}, '
                    f'got {least} and {most}: change them.'
                )

    def as_json(self) -> dict[str, Any]:
        """The fields as they read back from a JSON file (pairs are lists)."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
