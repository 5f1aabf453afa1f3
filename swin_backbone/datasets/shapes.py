"""The embedded data set: pictures of overlapping, textured shapes, made from a seed in a few seconds.

One root serves detection and segmentation. Detection finds COCO's layout (``train2017/``, ``val2017/``,
``annotations/instances_*.json``), segmentation finds ADE20K's (``images/``, ``annotations/{training,validation}/``)
over the same pictures, which are stored once and linked. Shapes are classes of both tasks; in the semantic maps the
background counts as the classes sky, water and ground, and scribbles are 0, 'other'.
"""

import importlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from swin_backbone.datasets.layouts import TRAIN, VAL, Split, coco_annotation
from swin_backbone.datasets.shapes_render import Picture, render
from swin_backbone.datasets.shapes_spec import (
    CLASSES,
    MAX_PICTURES,
    PALETTE,
    SEGMENTATION_CLASSES,
    SEGMENTATION_PALETTE,
    STUFF_CLASSES,
    ShapesSpec,
)
from swin_backbone.errors import InputError

__all__ = [
    'CLASSES',
    'PALETTE',
    'SEGMENTATION_CLASSES',
    'SEGMENTATION_PALETTE',
    'STUFF_CLASSES',
    'ShapesSpec',
    'ShapesSummary',
    'SplitCounts',
    'read_shapes',
    'write_shapes',
]

SPEC_FILE = 'spec.json'
FORMAT = 'swin_backbone shapes'
# Raise it with every change that makes other pictures or files from the same spec.
FORMAT_VERSION = 1
# More than the objects of any picture and its crowd, see MAX_OBJECTS.
IDS_PER_PICTURE = 100
SPLITS = {'train': TRAIN, 'val': VAL}


@dataclass(frozen=True)
class SplitCounts:
    """What one split holds; crowds are not counted as objects."""

    pictures: int
    objects: int
    crowds: int


@dataclass(frozen=True)
class ShapesSummary:
    """What lies under a root.

    Attributes:
        written: False where the same data set was there already.
    """

    root: Path
    train: SplitCounts
    val: SplitCounts
    written: bool


def write_shapes(root: Path, spec: ShapesSpec | None = None) -> ShapesSummary:
    """Make the data set under ``root``, or leave it as it is where ``root`` holds the same one already.

    Everything is written beside ``root`` and renamed when whole, so an interrupted call leaves ``root`` untouched.

    Raises:
        InputError: ``root`` holds anything else, cannot be written, or Pillow is missing.
    """
    spec = spec or ShapesSpec()
    found = read_shapes(root, spec)
    if found is not None:
        return found
    pillow = _pillow()
    with _renamed_when_whole(Path(root)) as folder:
        counts = {name: _write_split(folder, name, spec, pillow) for name in SPLITS}
        marker = {**_identity(spec), 'counts': {name: asdict(count) for name, count in counts.items()}}
        _write_json(folder / SPEC_FILE, marker)
    return ShapesSummary(Path(root), **counts, written=True)


def read_shapes(root: Path, spec: ShapesSpec | None = None) -> ShapesSummary | None:
    """The summary of the data set that ``root`` holds, or None where ``root`` is empty or does not exist.

    Raises:
        InputError: ``root`` holds another data set, other files, or lacks files of this one.
    """
    root, spec = Path(root), spec or ShapesSpec()
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return None
    advice = 'name a folder that is new or empty, or move this one away'
    marker = _read_marker(root)
    if marker is None:
        raise InputError(f'{root} holds something other than the shapes data set: {advice}.')
    difference = _difference(marker, spec)
    if difference:
        raise InputError(f'{root} holds another shapes data set ({difference}): {advice}.')
    missing = [name for name in _file_names(spec) if not (root / name).is_file()]
    if missing:
        raise InputError(f'{root} lacks {len(missing)} of its files, the first is {missing[0]}: {advice}.')
    counts = {name: SplitCounts(**marker['counts'][name]) for name in SPLITS}
    return ShapesSummary(root, **counts, written=False)


def _read_marker(root: Path) -> dict[str, Any] | None:
    try:
        marker = json.loads((root / SPEC_FILE).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None
    return marker if isinstance(marker, dict) and marker.get('format') == FORMAT else None


def _identity(spec: ShapesSpec) -> dict[str, Any]:
    return {'format': FORMAT, 'version': FORMAT_VERSION, 'spec': spec.as_json()}


def _difference(marker: dict[str, Any], spec: ShapesSpec) -> str:
    """In words, how the data set of a marker differs from the one asked for; empty where it does not."""
    if marker.get('version') != FORMAT_VERSION:
        return f'format version {marker.get("version")} where this release makes {FORMAT_VERSION}'
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


def _names(name: str, spec: ShapesSpec) -> list[str]:
    """COCO's twelve digits; a picture keeps its name whatever the sizes of the splits."""
    first, count = (1, spec.train_count) if name == 'train' else (MAX_PICTURES + 1, spec.val_count)
    return [f'{number:012d}' for number in range(first, first + count)]


def _file_names(spec: ShapesSpec) -> Iterator[str]:
    for name, split in SPLITS.items():
        yield split.coco_annotations
        for stem in _names(name, spec):
            yield f'{split.coco_images}/{stem}.jpg'
            yield f'{split.ade_images}/{stem}.jpg'
            yield f'{split.ade_annotations}/{stem}.png'


def _write_split(root: Path, name: str, spec: ShapesSpec, pillow: Any) -> SplitCounts:
    split = SPLITS[name]
    for folder in (split.coco_images, split.ade_images, split.ade_annotations):
        (root / folder).mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index, stem in enumerate(_names(name, spec)):
        # A generator for each picture, so that no picture depends on how many come before it.
        rng = np.random.default_rng([spec.seed, list(SPLITS).index(name), index])
        picture = render(rng, spec, crowd=_holds_crowd(index, spec.crowd_share))
        _write_pictures(root, split, stem, picture, pillow)
        images.append({'id': int(stem), 'file_name': f'{stem}.jpg', 'width': spec.width, 'height': spec.height})
        annotations += _annotations(int(stem), picture)
    content = {
        'info': {'description': f'{FORMAT}, {name} split', 'version': str(FORMAT_VERSION)},
        'licenses': [],
        'images': images,
        'annotations': annotations,
        'categories': [
            {'id': number, 'name': kind, 'supercategory': 'shape'} for number, kind in enumerate(CLASSES, start=1)
        ],
    }
    _write_json(root / split.coco_annotations, content)
    crowds = sum(annotation['iscrowd'] for annotation in annotations)
    return SplitCounts(len(images), len(annotations) - crowds, crowds)


def _holds_crowd(index: int, share: float) -> bool:
    """Spreads the crowds evenly, so that a split of ``1 / share`` pictures or more holds one for certain."""
    return int((index + 1) * share) > int(index * share)


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


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, sort_keys=True) + '\n', encoding='utf-8')
