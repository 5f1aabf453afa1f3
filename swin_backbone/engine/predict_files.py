"""Predictions for image files: drawings, JSON, label maps, and one file in COCO format."""

import io
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from swin_backbone.datasets.image_check import problem_and_darkness
from swin_backbone.engine.predict import Predictor
from swin_backbone.engine.prediction import Prediction
from swin_backbone.evaluation.drawing import Colour, Image, Instances, draw_instances, draw_labels, side_by_side
from swin_backbone.evaluation.gallery import SCORE_THRESHOLD, counted
from swin_backbone.files import write_bytes, write_json

LOGGER = logging.getLogger('swin_backbone')


@dataclass
class CocoFile:
    """Predicted objects of many images in COCO format, with scores; category ids start at 1."""

    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)

    def add(self, prediction: Prediction, path: Path) -> None:
        """Add the objects of an image."""
        height, width = prediction.image.shape[:2]
        self.images.append(dict(id=len(self.images) + 1, file_name=str(path), width=width, height=height))
        for index, one in enumerate(describe_objects(prediction)):
            masks = prediction['masks']
            area = one['bbox'][2] * one['bbox'][3] if masks is None else int(masks[index].sum())
            entry = dict(id=len(self.annotations) + 1, image_id=len(self.images), category_id=one['label'] + 1)
            kept = {key: one[key] for key in ('bbox', 'score', 'segmentation') if key in one}
            self.annotations.append(dict(entry, area=area, iscrowd=0, **kept))

    def write(self, file: Path, names: Sequence[str]) -> None:
        """Write the file; ``names`` are the classes of the model."""
        categories = [dict(id=number, name=name) for number, name in enumerate(names, start=1)]
        write_json(file, dict(images=self.images, annotations=self.annotations, categories=categories))


def predict_files(
    predictor: Predictor,
    files: dict[Path, Path],
    out_dir: Path,
    threshold: float = SCORE_THRESHOLD,
    only: Sequence[str] | None = None,
    coco: CocoFile | None = None,
) -> Iterator[tuple[Path, str]]:
    """Predict image files one by one, and write ``<place>.png``, ``<place>.json`` and, for segmenters, the label map.

    Args:
        predictor: the model.
        files: output path without suffix for each image, relative to ``out_dir``; see
            :func:`~swin_backbone.engine.predict_sources.find_files`.
        out_dir: the output folder.
        threshold: minimum score of an object.
        only: classes to write; None for all.
        coco: file object to which the objects are added.

    Yields:
        Each file, and why it was skipped (empty if it was not).
    """
    for path, place in files.items():
        problem, dark = problem_and_darkness(path)
        if dark:
            LOGGER.warning(
                '%s: an image of 12 bits stored in 16 is read as nearly black: multiply its values by 16', path
            )
        if not problem:
            found = predictor(path).select(threshold, only)
            write_prediction(found, path, out_dir / place, threshold)
            if coco is not None:
                coco.add(found, path)
        yield path, problem


def write_prediction(found: Prediction, path: Path, target: Path, threshold: float) -> None:
    """Write the drawing and the JSON file of one image; ``target`` is their path without suffix."""
    image = found.image
    write_png(Path(f'{target}.png'), draw_captioned(found, image, threshold))
    content: dict[str, Any] = {'file': str(path), 'width': image.shape[1], 'height': image.shape[0]}
    if 'label_map' in found:
        map_path = Path(f'{target}_labels.png')
        write_label_map(map_path, found['label_map'], found.palette)
        content['label_map'] = map_path.name
    write_json(Path(f'{target}.json'), content | describe(found))


def draw_captioned(found: Prediction, image: Image, threshold: float) -> Image:
    """Draw a prediction at display size with a caption above it."""
    if 'label_map' in found:
        return side_by_side([draw_labels(image, found['label_map'], found['names'], found.palette)], ['prediction'])
    instances = Instances(found['boxes'], found['labels'], found['scores'], found['masks'])
    caption = f'prediction, {counted(len(found["labels"]))} with a score of {threshold:g} or more'
    return side_by_side([draw_instances(image, instances, found['names'], found.palette)], [caption])


def write_png(path: Path, image: Image) -> None:
    """Write an RGB image."""
    write_bytes(path, cv2.imencode('.png', image[..., ::-1])[1].tobytes())


def write_label_map(path: Path, labels: NDArray[np.uint8], palette: Sequence[Colour]) -> None:
    """Write a PNG whose pixel values are the labels, with a colour palette."""
    from PIL import Image as Pillow

    colours = np.zeros((256, 3), np.uint8)
    colours[: len(palette)] = palette
    image = Pillow.fromarray(labels)
    image.putpalette(colours.tobytes())
    content = io.BytesIO()
    image.save(content, 'PNG')
    write_bytes(path, content.getvalue())


def describe(found: Prediction) -> dict[str, Any]:
    """Return a prediction as JSON data: its ``classes`` or its ``objects``."""
    if 'label_map' in found:
        return {'classes': describe_labels(found['label_map'], found['names'])}
    return {'objects': describe_objects(found)}


def describe_labels(labels: NDArray[np.uint8], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the classes of a label map by decreasing area; ``label`` is their value in the map."""
    values, counts = np.unique(labels[labels < len(names)], return_counts=True)
    order = np.argsort(-counts, kind='stable')
    return [
        dict(
            label=int(values[i]),
            name=names[values[i]],
            pixels=int(counts[i]),
            share=round(float(counts[i] / labels.size), 6),
        )
        for i in order
    ]


def describe_objects(found: Prediction) -> list[dict[str, Any]]:
    """Return objects by decreasing score, with boxes (x, y, width, height) in pixels and masks as COCO RLE."""
    objects = []
    for i, label in enumerate(found['labels']):
        x0, y0, x1, y1 = (round(float(value), 2) for value in found['boxes'][i])
        one = dict(
            label=int(label),
            name=found['names'][label],
            score=round(float(found['scores'][i]), 4),
            bbox=[x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)],
        )
        if found['masks'] is not None:
            one['segmentation'] = run_lengths(found['masks'][i])
        objects.append(one)
    return objects


def run_lengths(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Encode a mask ``[H, W]`` as COCO's compressed RLE."""
    from pycocotools import mask as coco_mask

    encoded = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {'size': [int(side) for side in encoded['size']], 'counts': encoded['counts'].decode('ascii')}
