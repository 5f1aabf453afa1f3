"""Check that label maps have one channel, the size of their image, and only labels of the classes."""

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from swin_backbone.datasets.image_check import large_images, read_header, show_progress
from swin_backbone.datasets.problems import Findings

UNLABELLED = 255
CHANNELS = {'LA': 2, 'PA': 2, 'RGB': 3, 'YCbCr': 3, 'LAB': 3, 'HSV': 3, 'RGBA': 4, 'RGBX': 4, 'CMYK': 4}
"""Pillow's modes with several channels."""


class LabelMap(NamedTuple):
    """Properties of a label map.

    Attributes:
        size: width and height.
        labels: labels that occur in it, except 255.
        mode: Pillow's mode; empty if the file cannot be read.
        problem: why the file cannot be read; empty if it can.
    """

    size: tuple[int, int] = (0, 0)
    labels: tuple[int, ...] = ()
    mode: str = ''
    problem: str = ''


def read_map(path: str) -> LabelMap:
    """Read a label map."""
    from PIL import Image

    header = read_header(path)
    if header.problem or header.size == (0, 0):
        return LabelMap(problem=header.problem or 'an unsupported image type')
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            with Image.open(path) as image:
                if image.mode in CHANNELS or image.mode == 'F':
                    return LabelMap(image.size, (), image.mode)
                return LabelMap(image.size, labels_of(np.asarray(image)), image.mode)
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        return LabelMap(problem='cut off' if 'truncated' in str(error) else f'damaged ({error})')


def labels_of(values: np.ndarray) -> tuple[int, ...]:
    """Return the labels that occur in a map, except 255."""
    if values.dtype in (np.uint8, np.bool_):
        found = np.flatnonzero(np.bincount(values.ravel(), minlength=1))
    else:
        found = np.unique(values)
    return tuple(int(label) for label in found if label != UNLABELLED)


def read_maps(paths: Sequence[str]) -> list[LabelMap]:
    """Read label maps in several threads."""
    with (
        large_images(),
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
        show_progress('reading label maps', len(paths), True) as progress,
    ):
        maps = []
        for one in pool.map(read_map, paths):
            maps.append(one)
            progress.update()
    return maps


def check_maps(
    findings: Findings, pairs: Sequence[tuple[str, str]], highest: int | None, meaning: str, ignored: int = UNLABELLED
) -> None:
    """Report label maps that cannot be read, have several channels, or a wrong size or labels.

    Args:
        findings: problems are added to it.
        pairs: paths of images and their label maps.
        highest: the highest label of a class; None to accept any label.
        meaning: description of the labels of the classes for the message.
        ignored: a label without a class that the loss ignores, in addition to 255.
    """
    unreadable, colour, fractional, other, beyond = [], [], [], [], []
    maps = read_maps([label_map for _, label_map in pairs])
    for (image, path), one in zip(pairs, maps, strict=True):
        name = os.path.basename(path)
        if one.problem:
            unreadable.append(f'{name}: {one.problem}')
            continue
        if one.mode in CHANNELS:
            colour.append(f'{name} is a colour image with {CHANNELS[one.mode]} channels, but label maps have one')
            continue
        if one.mode == 'F':
            fractional.append(name)
            continue
        header = read_header(image)
        if header.size not in ((0, 0), one.size) or header.shown not in ((0, 0), one.size):
            size = header.shown
            turned = ', rotated by its EXIF orientation' if header.size == one.size else ''
            other.append(f'{name}: {one.size[0]}x{one.size[1]}, its image {size[0]}x{size[1]}{turned}')
        invalid = [
            label for label in one.labels if highest is not None and label != ignored and not 0 <= label <= highest
        ]
        if invalid:
            beyond.append(f'{name}: label {invalid[-1]}')
    findings.add('label map', 'that cannot be read', 'save them again as PNG', unreadable)
    findings.add('label map', 'with colours', 'convert colours to class numbers', colour)
    findings.add('label map', 'of floating-point numbers', 'save integers, as 8-bit PNG', fractional)
    findings.add('label map', 'with a size that differs from the image', 'save both upright in the same size', other)
    findings.add(
        'label map',
        'with labels beyond the classes',
        f'{meaning}: list all classes in the order of their labels, or check reduce_zero_label',
        beyond,
    )
