"""Generated data sets: options, and files in the layouts of both COCO and ADE20K.

Detection reads COCO's layout (``train2017/``, ``val2017/``, ``annotations/instances_*.json``), segmentation reads
ADE20K's (``images/``, ``annotations/{training,validation}/``) with links to the same images.
"""

import json
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from swin_backbone.errors import InputError

BoolArray = NDArray[np.bool_]
Point = tuple[int, int]

SPEC_FILE = 'spec.json'
MAX_IMAGES = 99_999
IDS_PER_IMAGE = 100
"""Larger than the number of instances in any image."""

SPLITS = {'train': 'training', 'val': 'validation'}
"""Names of the splits in COCO and in ADE20K."""


@dataclass(frozen=True)
class Instance:
    """An object or a crowd.

    Attributes:
        kind: index of its class.
        mask: the visible pixels, [H, W].
        crowd: whether it is a group of uncounted objects.
    """

    kind: int
    mask: BoolArray
    crowd: bool = False


@dataclass(frozen=True)
class LabelledImage:
    """An image and its ground truth.

    Attributes:
        image: RGB, [H, W, 3].
        semantic: 0 for 'other', otherwise 1 + the index of the class, [H, W].
        instances: from back to front; their masks do not overlap.
    """

    image: NDArray[np.uint8]
    semantic: NDArray[np.uint8]
    instances: tuple[Instance, ...]


def option(default: Any, description: str, low: float, high: float) -> Any:
    """Define a field of a spec with its default, its help on the command line, and its range."""
    return field(default=default, metadata={'help': description, 'range': (low, high)})


@dataclass(frozen=True)
class Spec(ABC):
    """Options of a generated data set; equal specs give identical files. Pairs are ranges that include both ends.

    Attributes:
        name: the kind of data set.
        classes: classes of the objects; COCO's category ids are 1, 2, ... in this order.
        supercategory: supercategory of all classes in COCO's file.
        version: increase it with every change of the generated files.

    Raises:
        InputError: if a value is outside its range.
    """

    name: ClassVar[str]
    classes: ClassVar[tuple[str, ...]]
    supercategory: ClassVar[str]
    version: ClassVar[int] = 1

    seed: int = option(0, 'random seed', 0, 2**63)
    train_count: int = option(400, 'number of training images', 1, MAX_IMAGES)
    val_count: int = option(80, 'number of validation images; they do not depend on --train-count', 1, MAX_IMAGES)
    width: int = option(128, 'width of an image in pixels', 32, 4096)
    height: int = option(128, 'height of an image in pixels', 32, 4096)

    def __post_init__(self) -> None:
        for entry in fields(self):
            low, high = self.limits().get(entry.name, entry.metadata['range'])
            value = getattr(self, entry.name)
            values = value if isinstance(value, tuple) else (value,)
            if not low <= values[0] <= values[-1] <= high:
                expected = 'a minimum and a maximum' if len(values) > 1 else 'a number'
                raise InputError(
                    f'{entry.name} of a {self.name} data set must be {expected} in {low}..{high}, '
                    f'got {" and ".join(map(str, values))}.'
                )

    def limits(self) -> Mapping[str, tuple[float, float]]:
        """Return ranges that depend on other options and replace those of the fields."""
        return {}

    @abstractmethod
    def render(self, rng: np.random.Generator, index: int) -> LabelledImage:
        """Draw the image with this index in its split."""

    def identity(self) -> dict[str, Any]:
        """Return the options that identify the data set, with the types that JSON has."""
        values = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        return {'format': f'swin_backbone {self.name}', 'version': self.version, 'spec': values}

    def image_names(self, split: str) -> list[str]:
        """Return the image names of a split, twelve digits as in COCO, independent of the sizes of the splits."""
        first, count = (1, self.train_count) if split == 'train' else (MAX_IMAGES + 1, self.val_count)
        return [f'{number:012d}' for number in range(first, first + count)]

    def file_names(self) -> Iterator[str]:
        """Yield every file of the data set except :data:`SPEC_FILE`."""
        for split, ade_split in SPLITS.items():
            yield f'annotations/instances_{split}2017.json'
            for name in self.image_names(split):
                yield f'{split}2017/{name}.jpg'
                yield f'images/{ade_split}/{name}.jpg'
                yield f'annotations/{ade_split}/{name}.png'

    def write_split(self, root: Path, split: str) -> dict[str, int]:
        """Write the files of a split into a folder; return its entry in :attr:`Summary.counts`."""
        return _write_split(root, split, self)

    def random(self, split: str, index: int) -> np.random.Generator:
        """Return a random generator for each image, so that no image depends on the number of images before it."""
        return np.random.default_rng([self.seed, list(SPLITS).index(split), index])


@dataclass(frozen=True)
class Summary:
    """A generated data set on disk.

    Attributes:
        counts: the numbers of 'images', 'objects' (without crowds) and 'crowds' for each split.
        written: whether this call wrote it.
    """

    root: Path
    counts: dict[str, dict[str, int]]
    written: bool


def write_data_set(root: Path, spec: Spec) -> Summary:
    """Generate a data set, unless ``root`` already contains the same one.

    It is written to a temporary folder next to ``root`` and renamed when complete, so an interrupted call leaves
    ``root`` unchanged.

    Raises:
        InputError: if ``root`` contains anything else or cannot be written, or Pillow is not installed.
    """
    found = read_data_set(root, spec)
    if found is not None:
        return found
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise InputError('writing images needs Pillow, which is not installed: run pip install pillow.') from error
    with _renamed_when_complete(Path(root)) as folder:
        counts = {split: spec.write_split(folder, split) for split in SPLITS}
        _write_json(folder / SPEC_FILE, {**spec.identity(), 'counts': counts})
    return Summary(Path(root), counts, written=True)


def read_data_set(root: Path, spec: Spec) -> Summary | None:
    """Return the summary of the data set in ``root``; None if ``root`` is empty or does not exist.

    Raises:
        InputError: if ``root`` contains another data set or other files, or files of this one are missing.
    """
    root, identity = Path(root), spec.identity()
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return None
    advice = 'use a new or empty folder, or move this one away'
    try:
        marker = json.loads((root / SPEC_FILE).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        marker = None
    if not isinstance(marker, dict) or marker.get('format') != identity['format']:
        raise InputError(f'{root} contains something other than the {spec.name} data set: {advice}.')
    found = {'format version': marker.get('version'), **marker.get('spec', {})}
    wanted = {'format version': spec.version, **identity['spec']}
    different = [
        f'{key} {found.get(key)} instead of {value}' for key, value in wanted.items() if found.get(key) != value
    ]
    if different:
        raise InputError(f'{root} contains another {spec.name} data set ({", ".join(different)}): {advice}.')
    missing = [name for name in spec.file_names() if not (root / name).is_file()]
    if missing:
        raise InputError(f'{root} is missing {len(missing)} files, the first is {missing[0]}: {advice}.')
    return Summary(root, marker['counts'], written=False)


@contextmanager
def _renamed_when_complete(root: Path) -> Iterator[Path]:
    root = root.resolve()
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=root.parent, prefix=f'.{root.name}-')
    except OSError as error:
        raise InputError(f'{root} cannot be created ({error.strerror}): use a folder that you can write.') from error
    with scratch as name:
        # Rename a subfolder, because the temporary folder is not readable by other users.
        folder = Path(name) / 'complete'
        folder.mkdir()
        yield folder
        try:
            folder.rename(root)
        except OSError as error:
            raise InputError(f'{root} cannot be created ({error.strerror}): use a new folder.') from error


def _write_split(root: Path, split: str, spec: Spec) -> dict[str, int]:
    """Write the images, label maps and annotations of a split; return their numbers."""
    from PIL import Image

    images, links = root / f'{split}2017', root / 'images' / SPLITS[split]
    label_maps = root / 'annotations' / SPLITS[split]
    for folder in (images, links, label_maps):
        folder.mkdir(parents=True)
    annotations: list[dict[str, Any]] = []
    names = spec.image_names(split)
    for index, name in enumerate(names):
        sample = spec.render(spec.random(split, index), index)
        Image.fromarray(sample.image).save(images / f'{name}.jpg', quality=95, subsampling=0)
        try:
            os.link(images / f'{name}.jpg', links / f'{name}.jpg')
        except OSError:  # the file system does not support hard links
            shutil.copyfile(images / f'{name}.jpg', links / f'{name}.jpg')
        Image.fromarray(sample.semantic).save(label_maps / f'{name}.png', compress_level=6)
        for number, instance in enumerate(sample.instances, start=int(name) * IDS_PER_IMAGE + 1):
            ids = {'id': number, 'image_id': int(name), 'category_id': instance.kind + 1}
            annotations.append({**ids, **coco_annotation(instance.mask, instance.crowd)})
    content = {
        'info': {'description': f'swin_backbone {spec.name}, {split} split', 'version': str(spec.version)},
        'licenses': [],
        'images': [
            {'id': int(name), 'file_name': f'{name}.jpg', 'width': spec.width, 'height': spec.height} for name in names
        ],
        'annotations': annotations,
        'categories': [
            {'id': number, 'name': name, 'supercategory': spec.supercategory}
            for number, name in enumerate(spec.classes, start=1)
        ],
    }
    _write_json(root / 'annotations' / f'instances_{split}2017.json', content)
    crowds = sum(annotation['iscrowd'] for annotation in annotations)
    return {'images': len(names), 'objects': len(annotations) - crowds, 'crowds': crowds}


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, sort_keys=True) + '\n', encoding='utf-8')


def coco_annotation(mask: BoolArray, crowd: bool) -> dict[str, Any]:
    """Return the shape entries of a COCO annotation: polygons, or run lengths for a crowd or a mask with holes.

    Args:
        mask: the visible pixels, [H, W], not empty.
    """
    polygons = None if crowd else mask_to_polygons(mask)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return {
        'iscrowd': int(crowd),
        'area': int(mask.sum()),
        'bbox': [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
        'segmentation': mask_to_rle(mask) if polygons is None else polygons,
    }


def mask_to_rle(mask: BoolArray) -> dict[str, list[int]]:
    """Encode a mask [H, W] as COCO's uncompressed run lengths; pycocotools only encodes compressed ones."""
    flat = np.concatenate([[False], mask.ravel(order='F')])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return {'size': list(mask.shape), 'counts': np.diff([0, *changes, mask.size]).tolist()}


def mask_to_polygons(mask: BoolArray) -> list[list[int]] | None:
    """Trace the outlines of a mask [H, W] along pixel edges, which pycocotools does not support.

    Returns:
        An outline ``[x0, y0, x1, y1, ...]`` for each connected piece (pixels that touch only at a corner are separate
        pieces), or None for a mask with a hole, which COCO's polygons cannot represent.
    """
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    # Unit steps along the border from each corner (x, y) on it, with the mask on the right-hand side.
    edges: dict[Point, list[Point]] = {}
    for neighbour, (right, down), step in (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),
        (padded[1:-1, 2:], (1, 0), (0, 1)),
        (padded[2:, 1:-1], (1, 1), (-1, 0)),
        (padded[1:-1, :-2], (0, 1), (0, -1)),
    ):
        for y, x in np.argwhere(inside & ~neighbour).tolist():
            edges.setdefault((x + right, y + down), []).append(step)
    polygons = []
    while edges:
        outline = _pop_outline(edges)
        if outline[0][0] == outline[1][0]:  # starts downwards from the leftmost corner, so it surrounds a hole
            return None
        polygons.append([number for point in outline for number in point])
    return polygons


def _pop_outline(edges: dict[Point, list[Point]]) -> list[Point]:
    """Remove the outline that starts at the leftmost corner, and return its corners."""
    start = point = min(edges)
    corners: list[Point] = []
    step = (0, 0)
    while not corners or point != start:
        steps = edges[point]
        turn = (-step[1], step[0])
        # If two pieces touch at this corner, a right turn stays on the same piece.
        following = turn if turn in steps else steps[0]
        steps.remove(following)
        if not steps:
            del edges[point]
        if following != step:
            corners.append(point)
        point, step = (point[0] + following[0], point[1] + following[1]), following
    return corners
