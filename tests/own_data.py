"""A small data set in the format of user data: images, COCO JSON of three classes, dataset.toml."""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask
from pycocotools.coco import COCO

from swin_backbone.datasets.label_maps import BACKGROUND, write_label_maps
from swin_backbone.datasets.shapes import ShapesSpec, write_shapes

SIZE = 128
COUNT = 8


def write_own_data(root: Path, photographs: Path | None) -> list[str]:
    """Write images and ``train.json``, and return the classes.

    Args:
        root: a new folder.
        photographs: a data set in COCO's layout, of which eight images are used, or None for generated ones.
    """
    root.mkdir(parents=True)
    return _from_shapes(root) if photographs is None else _from_photographs(root, photographs)


def write_maps(root: Path, classes: list[str]) -> None:
    """Write the same annotations as label maps, in ``maps``."""
    (root / 'maps').mkdir()
    write_label_maps(root / 'train.json', root / 'maps', [BACKGROUND, *classes])
    (root / 'maps' / 'images.txt').unlink()


def write_toml(root: Path, classes: list[str], annotations: str) -> Path:
    """Write the TOML file with these annotations for training and evaluation."""
    part = f'annotations = "{annotations}"\nimages = "images"\n'
    path = root / f'{Path(annotations).stem}.toml'
    path.write_text(f'classes = {json.dumps(classes)}\n[train]\n{part}[val]\n{part}')
    return path


def _from_shapes(root: Path) -> list[str]:
    write_shapes(root / 'shapes', ShapesSpec(train_count=COUNT, val_count=1, crowd_share=0))
    (root / 'shapes' / 'train2017').rename(root / 'images')
    (root / 'shapes' / 'annotations' / 'instances_train2017.json').rename(root / 'train.json')
    return ['circle', 'square', 'star']


def _from_photographs(root: Path, photographs: Path) -> list[str]:
    """Write photos with at most six objects, some for each class, scaled to a square."""
    classes = ['person', 'car', 'chair']
    with redirect_stdout(io.StringIO()):
        coco = COCO(photographs / 'annotations' / 'instances_train2017.json')
    known = coco.getCatIds(catNms=classes)
    objects = {image: coco.loadAnns(coco.getAnnIds([image], known, iscrowd=False)) for image in coco.imgs}
    few = {image for image, found in objects.items() if len(found) <= 6}
    chosen = {image for one in known for image in sorted(few & set(coco.getImgIds(catIds=[one])))[:3]}
    images = coco.loadImgs(sorted(chosen)[:COUNT])
    kept = [scaled(coco, one) for image in images for one in objects[image['id']]]
    (root / 'images').mkdir()
    for image in images:
        photograph = Image.open(photographs / 'train2017' / image['file_name']).convert('RGB')
        photograph.resize((SIZE, SIZE)).save(root / 'images' / image['file_name'])
        image |= dict(width=SIZE, height=SIZE)
    content = dict(images=images, annotations=kept, categories=coco.loadCats(known))
    (root / 'train.json').write_text(json.dumps(content))
    return classes


def scaled(coco: COCO, one: dict) -> dict:
    """Return an annotation for the scaled image, with its mask as RLE."""
    whole = Image.fromarray(coco.annToMask(one) * 255)
    pixels = np.asarray(whole.resize((SIZE, SIZE))) > 127
    run_lengths = mask.encode(np.asfortranarray(pixels.astype(np.uint8)))
    box = mask.toBbox(run_lengths).tolist()
    segmentation = dict(size=run_lengths['size'], counts=run_lengths['counts'].decode())
    return one | dict(bbox=box, area=int(pixels.sum()), segmentation=segmentation)
