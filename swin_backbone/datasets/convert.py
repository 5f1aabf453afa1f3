"""Convert annotations between COCO, YOLO and Pascal VOC with supervision; split and subset files in COCO's format."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from swin_backbone.errors import InputError
from swin_backbone.files import write_json

FORMATS = ('coco', 'yolo', 'voc')
YOLO_NAMES = 'data.yaml'


def convert(source: Path, images: Path, before: str, target: Path, after: str) -> int:
    """Convert boxes, and polygons if there are any; images are not copied.

    Args:
        source: a COCO file, or a folder of YOLO or VOC files; YOLO's ``data.yaml`` is in it or above it.
        images: the folder of the images.
        before: one of :data:`FORMATS`.
        target: the COCO file, or the folder, to write.
        after: one of :data:`FORMATS`.

    Returns:
        The number of images.

    Raises:
        InputError: if supervision is not installed, a file or folder is missing, or the target exists.
    """
    try:
        import supervision
    except ImportError as error:
        raise InputError('prepare-data convert needs supervision: run pip install supervision.') from error
    if not source.exists() or not images.is_dir():
        raise InputError(f'there is no {source if not source.exists() else images}: check the path.')
    check_new(target)
    if before == 'coco':
        data = supervision.DetectionDataset.from_coco(str(images), str(source))
    elif before == 'voc':
        data = supervision.DetectionDataset.from_pascal_voc(str(images), str(source))
    else:
        places = (source / YOLO_NAMES, source.parent / YOLO_NAMES, source.parent.parent / YOLO_NAMES)
        names = next((path for path in places if path.is_file()), None)
        if names is None:
            raise InputError(f'there is no {YOLO_NAMES} with the class names in {source} or above it: write one.')
        data = supervision.DetectionDataset.from_yolo(str(images), str(source), str(names))
    if not len(data):
        raise InputError(f'{images} contains no image of {source}: check both paths.')
    if after == 'coco':
        target.parent.mkdir(parents=True, exist_ok=True)
        data.as_coco(annotations_path=str(target))
    elif after == 'voc':
        data.as_pascal_voc(annotations_directory_path=str(target))
    else:
        data.as_yolo(annotations_directory_path=str(target), data_yaml_path=str(target / YOLO_NAMES))
    return len(data)


def split(source: Path, share: float, seed: int) -> tuple[Path, Path]:
    """Split a COCO file at random into ``<source>_train.json`` and ``<source>_val.json``.

    Args:
        source: a COCO file.
        share: fraction of the images for validation, between 0 and 1.
        seed: random seed.

    Returns:
        Both files.

    Raises:
        InputError: if a split would have no image, or a file exists.
    """
    content = read_coco(source)
    images = content['images']
    count = round(share * len(images))
    if not 0 < count < len(images):
        raise InputError(f'--val {share} of {len(images)} images leaves a split empty: use a fraction between 0 and 1.')
    chosen = set(random.Random(seed).sample(range(len(images)), count))
    targets = source.with_name(f'{source.stem}_train.json'), source.with_name(f'{source.stem}_val.json')
    for target, inside in zip(targets, (False, True), strict=True):
        check_new(target)
        write_json(target, part_of(content, [one for i, one in enumerate(images) if (i in chosen) is inside]))
    return targets


def subset(source: Path, target: Path, count: int | None, classes: Sequence[str] | None) -> int:
    """Write the first images of a COCO file, or the images with objects of some classes and only these objects.

    Args:
        source: a COCO file.
        target: the file to write.
        count: maximum number of images.
        classes: names of categories.

    Returns:
        The number of images.

    Raises:
        InputError: if a class is not in the file, no image remains, or the target exists.
    """
    check_new(target)
    content = read_coco(source)
    images = content['images']
    if classes:
        names = [one['name'] for one in content['categories']]
        for name in classes:
            if name not in names:
                raise InputError(f'class {name!r} is not in {source}, which has {", ".join(names)}.')
        content['categories'] = [one for one in content['categories'] if one['name'] in classes]
        ids = {one['id'] for one in content['categories']}
        content['annotations'] = [one for one in content['annotations'] if one['category_id'] in ids]
        seen = {one['image_id'] for one in content['annotations']}
        images = [one for one in images if one['id'] in seen]
    images = images[:count]
    if not images:
        raise InputError(f'no image of {source} remains: use other classes or a larger number.')
    write_json(target, part_of(content, images))
    return len(images)


def part_of(content: dict[str, Any], images: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the content of a COCO file for some of its images."""
    ids = {one['id'] for one in images}
    return {
        **content,
        'images': list(images),
        'annotations': [a for a in content['annotations'] if a['image_id'] in ids],
    }


def read_coco(path: Path) -> dict[str, Any]:
    """Return the content of a COCO file.

    Raises:
        InputError: if it does not exist or is not a COCO file.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        if all(isinstance(content[key], list) for key in ('images', 'annotations', 'categories')):
            return dict(content)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise InputError(f'{path} is not an annotation file in the format of COCO: check the path, or convert it first.')


def check_new(target: Path) -> None:
    """Raise an error if the target exists.

    Raises:
        InputError: if the target is a file or a folder that is not empty.
    """
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise InputError(f'{target} exists: choose another path, or move it away.')
