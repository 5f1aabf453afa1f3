"""Label maps for semantic segmentation from the polygons and masks of an annotation file in COCO's format."""

import io
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swin_backbone.errors import InputError
from swin_backbone.files import write_bytes, write_text

BACKGROUND = 'background'
"""The class with the label 0: pixels without an object."""

IGNORED = 255


def write_label_maps(annotations: Path, folder: Path, names: Sequence[str]) -> list[str]:
    """Write a PNG for each image, and the names of all images without suffixes to ``images.txt``.

    Smaller objects are drawn over larger ones. Crowds get the ignored label, and categories that are not in ``names``
    become background.

    Args:
        annotations: a file in COCO's format, with polygons or run lengths.
        folder: folder for the maps.
        names: the classes, :data:`BACKGROUND` first.

    Returns:
        The names without suffixes.

    Raises:
        InputError: if a class is not in the file, or an object has no mask.
    """
    content = json.loads(annotations.read_text(encoding='utf-8'))
    categories = {one['id']: one['name'] for one in content['categories']}
    absent = [name for name in names[1:] if name not in categories.values()]
    if absent:
        raise InputError(f'class {absent[0]!r} is not in {annotations}, which has {", ".join(categories.values())}.')
    objects: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for one in content.get('annotations', []):
        if not one.get('segmentation'):
            raise InputError(f'{annotations}: object {one.get("id")} has no mask, which label maps are made from.')
        objects[one['image_id']].append(one)
    stems = []
    for image in content['images']:
        stem = str(Path(image['file_name']).with_suffix(''))
        labels = label_map(objects[image['id']], image['height'], image['width'], categories, names)
        write_bytes(folder / f'{stem}.png', png(labels))
        stems.append(stem)
    write_text(folder / 'images.txt', '\n'.join(stems) + '\n')
    return stems


def label_map(
    objects: Sequence[dict[str, Any]], height: int, width: int, categories: dict[Any, str], names: Sequence[str]
) -> NDArray[np.uint8]:
    """Draw the label map ``[H, W]`` of an image's objects."""
    labels = np.zeros((height, width), np.uint8)
    masks = [(one, mask_of(one['segmentation'], height, width)) for one in objects]
    for one, mask in sorted(masks, key=lambda pair: -int(pair[1].sum())):
        name = categories[one['category_id']]
        if one.get('iscrowd'):
            labels[mask] = IGNORED
        elif name in names:
            labels[mask] = names.index(name)
    return labels


def mask_of(segmentation: Any, height: int, width: int) -> NDArray[np.bool_]:
    """Decode polygons or run lengths to a mask ``[H, W]``."""
    from pycocotools import mask as coco_mask

    if isinstance(segmentation, list):
        encoded = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation['counts'], list):
        encoded = coco_mask.frPyObjects(segmentation, height, width)
    else:
        encoded = segmentation
    return np.asarray(coco_mask.decode(encoded), bool)


def png(labels: NDArray[np.uint8]) -> bytes:
    """Encode a label map as PNG."""
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(labels).save(content, 'PNG')
    return content.getvalue()
