"""Contact sheets: drawings of annotated images of a COCO file, for a check before training."""

from pathlib import Path

import numpy as np

from swin_backbone.datasets.convert import read_coco
from swin_backbone.datasets.label_maps import mask_of
from swin_backbone.errors import InputError
from swin_backbone.evaluation.drawing import Instances, draw_instances, fallback_palette, side_by_side
from swin_backbone.evaluation.gallery import counted, read_image, write_sheet


def write_contact_sheet(source: Path, images: Path, target: Path, count: int = 12) -> int:
    """Draw annotated images, evenly spaced in a COCO file, into one PNG; return their number.

    Raises:
        InputError: if the file has no images, or one cannot be read.
    """
    content = read_coco(source)
    listed = content['images']
    if not listed:
        raise InputError(f'{source} has no images: check the file.')
    names = [one['name'] for one in content['categories']]
    labels = {one['id']: label for label, one in enumerate(content['categories'])}
    chosen = [listed[round(i)] for i in np.linspace(0, len(listed) - 1, min(count, len(listed)))]
    cells = []
    for one in chosen:
        image = read_image(str(images / one['file_name']))
        objects = [a for a in content['annotations'] if a['image_id'] == one['id']]
        corners = np.array([a['bbox'] for a in objects], np.float32).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        found = np.array([-1 if a.get('iscrowd') else labels[a['category_id']] for a in objects], int)
        masks = None
        if objects and all(a.get('segmentation') for a in objects):
            masks = np.stack([mask_of(a['segmentation'], *image.shape[:2]) for a in objects])
        drawing = draw_instances(image, Instances(corners, found, None, masks), names, fallback_palette(len(names)))
        cells.append(side_by_side([drawing], [f'{one["file_name"]}, {counted(len(objects))}']))
    write_sheet(cells, target)
    return len(cells)
