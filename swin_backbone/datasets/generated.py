"""Data sets made from a seed: one root in the layouts of COCO and ADE20K, written whole or not at all.

Detection finds COCO's layout (``train2017/``, ``val2017/``, ``annotations/instances_*.json``), segmentation finds
ADE20K's (``images/``, ``annotations/{training,validation}/``) over the same pictures, which are stored once and linked.
"""

import importlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from swin_backbone.datasets.layouts import TRAIN, VAL, Split, coco_annotation
from swin_backbone.errors import InputError
from swin_backbone.files import write_text

SPEC_FILE = 'spec.json'
MAX_PICTURES = 99_999
# More than the objects of any picture, and its crowd.
IDS_PER_PICTURE = 100
SPLITS = {'train': TRAIN, 'val': VAL}


@dataclass(frozen=True)
class Instance:
    """One object, or one crowd, as it is seen.

    Attributes:
        kind: index into the classes.
        mask: the pixels on which it is visible, [H, W].
        crowd: whether this is a cluster of uncounted members.
    """

    kind: int
    mask: NDArray[np.bool_]
    crowd: bool = False


@dataclass(frozen=True)
class Picture:
    """A picture with its truth.

    Attributes:
        image: RGB, [H, W, 3].
        semantic: 0 for 'other', else 1 + the index into the classes of the semantic maps, [H, W].
        instances: from back to front; their masks do not overlap.
    """

    image: NDArray[np.uint8]
    semantic: NDArray[np.uint8]
    instances: tuple[Instance, ...]


class Spec(Protocol):
    """Everything that decides a data set: equal specs give equal bytes."""

    @property
    def seed(self) -> int:
        """Seed of all random choices."""

    @property
    def train_count(self) -> int:
        """Training pictures."""

    @property
    def val_count(self) -> int:
        """Validation pictures; the same ones for any number of training pictures."""

    @property
    def width(self) -> int:
        """Width of a picture in pixels."""

    @property
    def height(self) -> int:
        """Height of a picture in pixels."""

    def as_json(self) -> dict[str, Any]:
        """The fields as they read back from a JSON file (pairs are lists)."""


@dataclass(frozen=True)
class Generator:
    """A kind of data set.

    Attributes:
        name: how messages and files call it.
        version: raise it with every change that makes other pictures or files from the same spec.
        classes: the countable kinds; COCO's category ids are 1.. in this order.
        supercategory: of all of them, in COCO's file.
        render: makes one picture from a random generator, a spec and the picture's index in its split.
    """

    name: str
    version: int
    classes: tuple[str, ...]
    supercategory: str
    render: Callable[[np.random.Generator, Any, int], Picture]

    @property
    def format(self) -> str:
        """What marks its folders."""
        return f'swin_backbone {self.name}'


@dataclass(frozen=True)
class SplitCounts:
    """What one split holds; crowds are not counted as objects."""

    pictures: int
    objects: int
    crowds: int


@dataclass(frozen=True)
class GeneratedSummary:
    """What lies under a root.

    Attributes:
        written: False where the same data set was there already.
    """

    root: Path
    train: SplitCounts
    val: SplitCounts
    written: bool


def write_generated(root: Path, generator: Generator, spec: Spec) -> GeneratedSummary:
    """Make the data set under ``root``, or leave it as it is where ``root`` holds the same one already.

    Everything is written beside ``root`` and renamed when whole, so an interrupted call leaves ``root`` untouched.

    Raises:
        InputError: ``root`` holds anything else, cannot be written, or Pillow is missing.
    """
    found = read_generated(root, generator, spec)
    if found is not None:
        return found
    pillow = _pillow()
    with _renamed_when_whole(Path(root)) as folder:
        counts = {name: _write_split(folder, name, generator, spec, pillow) for name in SPLITS}
        marker = {**_identity(generator, spec), 'counts': {name: asdict(count) for name, count in counts.items()}}
        write_text(folder / SPEC_FILE, json.dumps(marker, sort_keys=True) + '\n')
    return GeneratedSummary(Path(root), **counts, written=True)


def read_generated(root: Path, generator: Generator, spec: Spec) -> GeneratedSummary | None:
    """The summary of the data set that ``root`` holds, or None where ``root`` is empty or does not exist.

    Raises:
        InputError: ``root`` holds another data set, other files, or lacks files of this one.
    """
    root = Path(root)
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return None
    advice = 'name a folder that is new or empty, or move this one away'
    marker = _read_marker(root, generator)
    if marker is None:
        raise InputError(f'{root} holds something other than the {generator.name} data set: {advice}.')
    difference = _difference(marker, generator, spec)
    if difference:
        raise InputError(f'{root} holds another {generator.name} data set ({difference}): {advice}.')
    missing = [name for name in _file_names(spec) if not (root / name).is_file()]
    if missing:
        raise InputError(f'{root} lacks {len(missing)} of its files, the first is {missing[0]}: {advice}.')
    counts = {name: SplitCounts(**marker['counts'][name]) for name in SPLITS}
    return GeneratedSummary(root, **counts, written=False)


def _read_marker(root: Path, generator: Generator) -> dict[str, Any] | None:
    try:
        marker = json.loads((root / SPEC_FILE).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None
    return marker if isinstance(marker, dict) and marker.get('format') == generator.format else None


def _identity(generator: Generator, spec: Spec) -> dict[str, Any]:
    return {'format': generator.format, 'version': generator.version, 'spec': spec.as_json()}


def _difference(marker: dict[str, Any], generator: Generator, spec: Spec) -> str:
    """In words, how the data set of a marker differs from the one asked for; empty where it does not."""
    if marker.get('version') != generator.version:
        return f'format version {marker.get("version")} where this release makes {generator.version}'
    held = marker.get('spec', {})
    return ', '.join(
        f'{key} {held.get(key)} where {value} is asked for'
        for key, value in spec.as_json().items()
        if held.get(key) != value
    )


def _pillow() -> Any:
    try:
        return importlib.import_module('PIL.Image')
    except ImportError as error:
        raise InputError('writing pictures needs Pillow, which is not installed: run pip install pillow.') from error


@contextmanager
def _renamed_when_whole(root: Path) -> Iterator[Path]:
    root = root.resolve()
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=root.parent, prefix=f'.{root.name}-')
    except OSError as error:
        raise InputError(f'{root} cannot be made ({error.strerror}): name a folder that you may write.') from error
    with scratch as name:
        # A folder inside, because the temporary one is closed to other users.
        folder = Path(name) / 'whole'
        folder.mkdir()
        yield folder
        try:
            folder.rename(root)
        except OSError as error:
            raise InputError(f'{root} cannot be put in place ({error.strerror}): name a folder that is new.') from error


def _names(name: str, spec: Spec) -> list[str]:
    """COCO's twelve digits; a picture keeps its name whatever the sizes of the splits."""
    first, count = (1, spec.train_count) if name == 'train' else (MAX_PICTURES + 1, spec.val_count)
    return [f'{number:012d}' for number in range(first, first + count)]


def _file_names(spec: Spec) -> Iterator[str]:
    for name, split in SPLITS.items():
        yield split.coco_annotations
        for stem in _names(name, spec):
            yield f'{split.coco_images}/{stem}.jpg'
            yield f'{split.ade_images}/{stem}.jpg'
            yield f'{split.ade_annotations}/{stem}.png'


def _write_split(root: Path, name: str, generator: Generator, spec: Spec, pillow: Any) -> SplitCounts:
    split = SPLITS[name]
    for folder in (split.coco_images, split.ade_images, split.ade_annotations):
        (root / folder).mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index, stem in enumerate(_names(name, spec)):
        # A generator for each picture, so that no picture depends on how many come before it.
        rng = np.random.default_rng([spec.seed, list(SPLITS).index(name), index])
        picture = generator.render(rng, spec, index)
        _write_pictures(root, split, stem, picture, pillow)
        images.append({'id': int(stem), 'file_name': f'{stem}.jpg', 'width': spec.width, 'height': spec.height})
        annotations += _annotations(int(stem), picture)
    content = {
        'info': {'description': f'{generator.format}, {name} split', 'version': str(generator.version)},
        'licenses': [],
        'images': images,
        'annotations': annotations,
        'categories': [
            {'id': number, 'name': kind, 'supercategory': generator.supercategory}
            for number, kind in enumerate(generator.classes, start=1)
        ],
    }
    write_text(root / split.coco_annotations, json.dumps(content, sort_keys=True) + '\n')
    crowds = sum(annotation['iscrowd'] for annotation in annotations)
    return SplitCounts(len(images), len(annotations) - crowds, crowds)


def _annotations(image_id: int, picture: Picture) -> list[dict[str, Any]]:
    return [
        coco_annotation(
            instance.mask,
            instance.crowd,
            id=image_id * IDS_PER_PICTURE + number,
            image_id=image_id,
            category_id=instance.kind + 1,
        )
        for number, instance in enumerate(picture.instances, start=1)
    ]


def _write_pictures(root: Path, split: Split, stem: str, picture: Picture, pillow: Any) -> None:
    photograph = root / split.coco_images / f'{stem}.jpg'
    pillow.fromarray(picture.image).save(photograph, quality=95, subsampling=0)
    _link(photograph, root / split.ade_images / photograph.name)
    labels = root / split.ade_annotations / f'{stem}.png'
    pillow.fromarray(picture.semantic).save(labels, compress_level=6)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        # Not every file system links.
        shutil.copyfile(source, target)
