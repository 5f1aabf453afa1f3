"""Check annotations in COCO's panoptic format: a file with the segments of each image, and maps of segment ids."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from swin_backbone.datasets.coco_check import (
    CATEGORY_KEYS,
    IMAGE_KEYS,
    Annotations,
    check_category_names,
    check_image_entries,
    complete_entries,
    index_ids,
    is_row,
    read_annotations,
)
from swin_backbone.datasets.image_check import check_images, check_presence, names_in, read_header, sampled
from swin_backbone.datasets.problems import Findings, quoted

SEGMENT_KEYS = {'id', 'category_id', 'bbox', 'area'}
SAMPLED = 100
"""Number of images and maps that are read unless all are checked."""


def check_panoptic_files(
    path: Path, folder: str, maps: str, root: str, turned: bool = True, full: bool = False
) -> list[Findings]:
    """Check an annotation file, its images and its maps.

    Args:
        path: the annotation file.
        folder: folder of the images.
        maps: folder of the maps.
        root: the data root, which must contain all paths.
        turned: whether the pipeline rotates photos by their EXIF orientation.
        full: whether to read all images and maps, instead of some.

    Returns:
        The problems of the annotation file with its images, and those of the maps.

    Raises:
        InputError: if the annotation file cannot be read at all.
    """
    content = read_annotations(path)
    report = Annotations(Findings(str(path)))
    images = complete_entries(content['images'], IMAGE_KEYS, 'image', report.findings)
    rows = index_ids(images, 'image', report.findings)
    check_image_entries(images, report)
    kinds = check_kinds(content['categories'], report.findings)
    entries = complete_entries(content['annotations'], {'image_id', 'segments_info'}, 'annotation', report.findings)
    check_segments(entries, rows, kinds, report.findings)
    found = Findings(maps)
    if not report.findings.sentence:
        _, there = check_presence(report.findings, [name for name, _, _ in report.images], folder, root)
        chosen = there if full else sampled(there, SAMPLED)
        sizes = {name: (width, height) for name, width, height in report.images}
        files: list[tuple[str, tuple[int, int] | None]] = [(os.path.join(folder, one), sizes[one]) for one in chosen]
        check_images(report.findings, files, decode=full, turned=turned)
        check_maps(found, maps, entries, [images[rows[one['image_id']]] for one in entries], full)
    return [report.findings, found]


def check_kinds(entries: Sequence[Any], findings: Findings) -> dict[Any, int]:
    """Check the categories; return the index of each by its id."""
    categories = complete_entries(entries, {*CATEGORY_KEYS, 'isthing'}, 'category', findings)
    check_category_names(categories, findings)
    things = [index for index, one in enumerate(categories) if one['isthing']]
    early = [one['name'] for one in categories[: things[-1] if things else 0] if not one['isthing']]
    remedy = 'MMDetection numbers things first: list all things before stuff'
    findings.add('category', 'of stuff listed before things', remedy, early, quoted)
    return index_ids(categories, 'category', findings)


def check_segments(
    entries: Sequence[dict[str, Any]], rows: dict[Any, int], kinds: dict[Any, int], findings: Findings
) -> None:
    """Report annotations of unknown images, and segments with missing keys, unknown categories or invalid boxes."""
    strays = [one['image_id'] for one in entries if one['image_id'] not in rows]
    findings.add('annotation', 'with an unknown image_id', 'add the image to the list, or remove them', strays, quoted)
    incomplete, unknown, boxes = [], [], []
    for one in entries:
        segments = one['segments_info'] if isinstance(one['segments_info'], list) else [one['segments_info']]
        for segment in segments:
            place = f'image {quoted(one["image_id"])}: {quoted(segment)}'
            if not isinstance(segment, dict) or not segment.keys() >= SEGMENT_KEYS:
                incomplete.append(place)
            elif segment['category_id'] not in kinds:
                unknown.append(place)
            elif not is_row(segment['bbox'], 4):
                boxes.append(place)
    needed = f'every segment is a dict with {", ".join(sorted(SEGMENT_KEYS))}'
    findings.add('segment', 'with missing keys', needed, incomplete)
    findings.add('segment', 'with an unknown category_id', 'add the category to the list, or remove them', unknown)
    findings.add('segment', 'with a bbox that is not four finite numbers', 'write [x, y, width, height]', boxes)


def check_maps(
    findings: Findings, folder: str, entries: Sequence[dict[str, Any]], images: Sequence[dict[str, Any]], full: bool
) -> None:
    """Report maps that are missing, cannot be read, or have a wrong size or missing segments."""
    there = names_in(folder)
    named = [
        (image['file_name'].replace('.jpg', '.png'), one, image) for one, image in zip(entries, images, strict=True)
    ]
    absent = [name for name, _, _ in named if name not in there]
    findings.add('map', 'missing', 'every image needs a map with its name and the suffix .png', absent)
    unreadable, other, segments = [], [], []
    present = [one for one in named if one[0] in there]
    for name, one, image in present if full else sampled(present, SAMPLED):
        path = os.path.join(folder, name)
        problem = read_header(path, decode=True).problem
        if problem:
            unreadable.append(f'{name}: {problem}')
            continue
        size, ids = read_ids(path)
        if size != (image['width'], image['height']):
            other.append(f'{name}: {size[0]}x{size[1]}, its image {image["width"]}x{image["height"]}')
        lacking = [segment['id'] for segment in one['segments_info'] if segment['id'] not in ids]
        if lacking:
            segments.append(f'{name}: {quoted(lacking[0])}')
    findings.add('map', 'that cannot be read', 'save them again as PNG', unreadable)
    findings.add('map', 'with a size that differs from the image', 'save both upright in the same size', other)
    remedy = (
        'the colour of a segment in the map is id % 256, id // 256 % 256, id // 65536: write both from the same masks'
    )
    findings.add('map', 'without a segment of its image', remedy, segments)


def read_ids(path: str) -> tuple[tuple[int, int], set[int]]:
    """Return width and height of a map, and the ids of its segments."""
    from PIL import Image

    with Image.open(path) as image:
        colours = np.asarray(image.convert('RGB'), np.int64)
        return image.size, set(np.unique(colours @ (1, 256, 65536)).tolist())
