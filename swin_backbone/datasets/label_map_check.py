"""Check label maps: one channel, the size of their image, labels of the classes."""

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
    """What a label map holds.

    Attributes:
        size: width and height.
        labels: that occur in it, without 255.
        mode: Pillow's; empty if it cannot be read.
        problem: why it cannot be read; empty if it can.
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
        return LabelMap(problem=header.problem or 'not a kind of image that is read')
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
    """The labels in a map, without 255."""
    if values.dtype in (np.uint8, np.bool_):
        found = np.flatnonzero(np.bincount(values.ravel(), minlength=1))
    else:
        found = np.unique(values)
    return tuple(int(label) for label in found if label != UNLABELLED)


def read_maps(paths: Sequence[str]) -> list[LabelMap]:
    """Read many label maps, several at a time."""
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
    """Note label maps that cannot be read, have several channels, another size than their image, or other labels.

    Args:
        findings: where they are noted.
        pairs: of an image and its label map.
        highest: the last label that is a class; None if any may occur.
        meaning: which labels the classes have, in words.
        ignored: a label that no class has and the loss ignores, beside 255.
    """
    unreadable, colour, fractional, other, beyond = [], [], [], [], []
    maps = read_maps([label_map for _, label_map in pairs])
    for (image, path), one in zip(pairs, maps, strict=True):
        name = os.path.basename(path)
        if one.problem:
            unreadable.append(f'{name}: {one.problem}')
            continue
        if one.mode in CHANNELS:
            colour.append(f'{name} is a colour image of {CHANNELS[one.mode]} channels, label maps have one')
            continue
        if one.mode == 'F':
            fractional.append(name)
            continue
        header = read_header(image)
        if header.size not in ((0, 0), one.size) or header.shown not in ((0, 0), one.size):
            size = header.shown
            turned = ', turned by its EXIF orientation' if header.size == one.size else ''
            other.append(f'{name}: {one.size[0]}x{one.size[1]}, its image {size[0]}x{size[1]}{turned}')
        strange = [
            label for label in one.labels if highest is not None and label != ignored and not 0 <= label <= highest
        ]
        if strange:
            beyond.append(f'{name}: label {strange[-1]}')
    findings.add('label map', 'that cannot be read', 'save them again as PNG', unreadable)
    findings.add('label map', 'with colours', 'convert colours to the numbers of the classes', colour)
    findings.add('label map', 'of floating-point numbers', 'save whole numbers, as PNG of 8 bits', fractional)
    findings.add('label map', 'of another size than its image', 'save both at one size, upright', other)
    findings.add(
        'label map',
        'with labels beyond the classes',
        f'{meaning}: name all classes, in the order of their labels, or check reduce_zero_label',
        beyond,
    )
