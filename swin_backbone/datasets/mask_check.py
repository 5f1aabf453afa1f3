"""Check the masks of annotations in COCO's format: polygons, and run lengths as numbers or as text."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swin_backbone.datasets.problems import Findings

CHUNK = 20_000
"""Masks that are looked at together: enough for numpy, and little memory."""

FAR = 10
"""A mask that reaches this many times the image's longer side from the origin was not drawn on it. Rasterising it would
take memory in proportion."""

Describe = Callable[[int], str]


def is_number(value: Any) -> bool:
    """Whether a value is a number that a float can hold; NaN and infinite ones are."""
    return isinstance(value, float) or (type(value) is int and abs(value) < 1 << 1000)


def check_masks(
    findings: Findings, masks: Sequence[Any], sizes: NDArray[np.float64], describe: Callable[[int, Any], str]
) -> None:
    """Note masks that cannot be read.

    Args:
        findings: where they are noted.
        masks: the `segmentation` of every annotation, None where there is none.
        sizes: width and height of their images, [N, 2].
        describe: names an annotation by its index, with a value that is wrong in it.
    """

    def show(index: int) -> str:
        return describe(index, masks[index])

    absent, other, polygons, runs = [], [], [], []
    for index, mask in enumerate(masks):
        if not mask:
            absent.append(index)
        elif type(mask) is list:
            polygons.append(index)
        elif type(mask) is dict:
            runs.append(index)
        else:
            other.append(index)
    findings.add(
        'annotation',
        'without a segmentation',
        'the model needs masks: add them, remove these annotations, or train on boxes alone with --no-masks',
        absent,
        show,
    )
    findings.add(
        'annotation',
        'with a segmentation that is neither a list of polygons nor run lengths',
        'write [[x1, y1, x2, y2, ...]] or {"size": [height, width], "counts": ...}',
        other,
        show,
    )
    Polygons(findings, masks, sizes, show).check(polygons)
    check_runs(findings, masks, sizes, show, runs)


class Polygons:
    """Polygons of annotations, looked at in chunks.

    Args:
        findings: where problems are noted.
        masks: the `segmentation` of every annotation.
        sizes: width and height of their images, [N, 2].
        describe: names an annotation by its index.
    """

    def __init__(
        self, findings: Findings, masks: Sequence[Any], sizes: NDArray[np.float64], describe: Describe
    ) -> None:
        self.findings, self.masks, self.describe = findings, masks, describe
        self.reach = FAR * sizes.max(axis=1, initial=1)
        self.loose: list[int] = []
        self.small: list[int] = []
        self.partly: list[int] = []
        self.words: list[int] = []
        self.infinite: list[int] = []
        self.far: list[int] = []

    def check(self, indices: Sequence[int]) -> None:
        """Look at the masks with these indices, and note what is wrong."""
        for start in range(0, len(indices), CHUNK):
            self.look(indices[start : start + CHUNK])
        nested = 'a polygon is a list of numbers inside the list of polygons, [[x1, y1, x2, y2, ...]]'
        at_least = (
            'a polygon is x and y of at least three points: correct them, or train on boxes alone with --no-masks'
        )
        correct = 'correct or remove them'
        self.note('with polygons that are not lists in a list', nested, self.loose)
        self.note('with polygons of fewer than three points or an odd number of values', at_least, self.small)
        self.note('with values in a polygon that are not numbers', correct, self.words)
        self.note('with a NaN or infinite value in a polygon', correct, self.infinite)
        self.note(f'with a polygon further than {FAR} image sizes from the image', correct, self.far)
        self.note(
            'with one polygon of fewer than three points among others', 'that polygon is left out', self.partly, False
        )

    def note(self, phrase: str, remedy: str, indices: Sequence[int], fatal: bool = True) -> None:
        """Note problems of one kind."""
        self.findings.add('annotation', phrase, remedy, indices, self.describe, fatal)

    def look(self, indices: Sequence[int]) -> None:
        """Sort a chunk of masks into what is wrong with them."""
        masks = [self.masks[index] for index in indices]
        if not set(map(type, chain.from_iterable(masks))) <= {list}:
            strange = {i for i, mask in zip(indices, masks, strict=True) if not all(type(p) is list for p in mask)}
            self.loose += sorted(strange)
            indices = [index for index in indices if index not in strange]
            masks = [self.masks[index] for index in indices]
        if not indices:
            return
        parts = list(chain.from_iterable(masks))
        counts = np.fromiter(map(len, masks), np.int64, len(masks))
        owners = np.repeat(indices, counts)
        lengths = np.fromiter(map(len, parts), np.int64, len(parts))
        short = (lengths < 6) | (lengths % 2 == 1)
        if short.any():
            firsts = np.cumsum(counts) - counts
            whole = np.add.reduceat(~short, firsts)
            # pycocotools reads all polygons of a mask as boxes if the first one has four values.
            unusable = (whole == 0) | short[firsts]
            self.small += np.asarray(indices)[unusable].tolist()
            self.partly += np.asarray(indices)[~unusable & (whole < counts)].tolist()
            parts = [part for part, left_out in zip(parts, short, strict=True) if not left_out]
            owners, lengths = owners[~short], lengths[~short]
        self.measure(parts, owners, lengths)

    def measure(self, parts: list[list[Any]], owners: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        """Look at the values of polygons."""
        values = as_floats(parts)
        if values is None:
            right = np.array([all(map(is_number, part)) for part in parts])
            self.words += unique(owners[~right])
            parts = [part for part, good in zip(parts, right, strict=True) if good]
            owners, lengths = owners[right], lengths[right]
            values = np.array(list(chain.from_iterable(parts)), np.float64)
        if len(parts):
            reach = np.maximum.reduceat(np.abs(values), np.cumsum(lengths) - lengths)  # NaN wins
            self.infinite += unique(owners[~np.isfinite(reach)])
            self.far += unique(owners[np.isfinite(reach) & (reach > self.reach[owners])])


def as_floats(parts: Sequence[Sequence[Any]]) -> NDArray[np.float64] | None:
    """The values of lists, one after the other; None if some are not numbers."""
    try:
        values = np.array(list(chain.from_iterable(parts)))
    except ValueError:  # lists of different lengths among them
        return None
    return values.astype(np.float64) if values.ndim == 1 and values.dtype.kind in 'iuf' else None


def unique(indices: NDArray[np.int64]) -> list[int]:
    """Indices, each once."""
    return [int(index) for index in np.unique(indices)]


def check_runs(
    findings: Findings,
    masks: Sequence[Any],
    sizes: NDArray[np.float64],
    describe: Describe,
    indices: Sequence[int],
) -> None:
    """Note run lengths without a size, of another size, or that do not fill the image."""
    bare, other, damaged, texts = [], [], [], []
    for index in indices:
        size, counts = masks[index].get('size'), masks[index].get('counts')
        width, height = sizes[index]
        if not isinstance(size, list) or not isinstance(counts, (list, str)):
            bare.append(index)
        elif size != [height, width]:
            other.append(index)
        elif isinstance(counts, str):
            texts.append(index)
        elif not all(type(count) is int and count >= 0 for count in counts) or sum(counts) != height * width:
            damaged.append(index)
    for start in range(0, len(texts), CHUNK):
        chunk = np.array(texts[start : start + CHUNK])
        pixels = pixels_of([masks[index]['counts'] for index in chunk])
        damaged += chunk[pixels != sizes[chunk].prod(axis=1)].tolist()
    expected = 'run lengths are {"size": [height, width], "counts": text or list}: correct or remove them'
    findings.add('annotation', 'with run lengths without size or counts', expected, bare, describe)
    findings.add(
        'annotation',
        'with run lengths of another size than the image',
        'size is [height, width] of the image: correct or remove them',
        other,
        lambda index: f'{describe(index)} in an image of {sizes[index][0]:g}x{sizes[index][1]:g}',
    )
    findings.add(
        'annotation',
        'with run lengths that do not fill the image',
        'counts must be whole numbers that add up to height times width: correct or remove them',
        sorted(damaged),
        describe,
    )


def pixels_of(texts: Sequence[str]) -> NDArray[np.int64]:
    """How many pixels compressed run lengths cover; -1 for those that are damaged.

    pycocotools reads past the end of damaged ones.
    """
    pixels = np.full(len(texts), -1, np.int64)
    # Six bits a character from '0' on: five of the number, low ones first, and one that is set if more follow.
    whole = np.array([text.isascii() and text != '' and ord(text[-1]) - 48 < 32 for text in texts], bool)
    joined = ''.join(text for text, good in zip(texts, whole, strict=True) if good)
    lengths = np.array([len(text) for text, good in zip(texts, whole, strict=True) if good], np.int64)
    if not len(lengths):
        return pixels
    codes = np.frombuffer(joined.encode(), np.uint8).astype(np.int64) - 48
    starts = np.cumsum(lengths) - lengths
    ends = np.flatnonzero((codes & 32) == 0)
    begins = np.concatenate([[0], ends[:-1] + 1])
    digits = np.arange(len(codes)) - np.repeat(begins, ends - begins + 1)
    values = np.add.reduceat((codes & 31) << (5 * np.minimum(digits, 11)), begins)
    values -= np.where(codes[ends] & 16, 1 << (5 * np.minimum(ends - begins + 1, 12)), 0)
    firsts = np.searchsorted(begins, starts)
    numbers = np.diff(np.append(firsts, len(begins)))
    place = np.arange(len(begins)) - np.repeat(firsts, numbers)
    runs = np.where(place == 0, values, 0)
    for parity in (1, 0):  # from the fourth on, numbers are differences to the one before the last
        chosen = (place % 2 == parity) & (place > 0)
        sums = np.cumsum(np.where(chosen, values, 0))
        runs += np.where(chosen, sums - np.repeat(sums[firsts], numbers), 0)
    bad = (np.minimum.reduceat(codes, starts) < 0) | (np.maximum.reduceat(codes, starts) > 63)
    bad |= (np.maximum.reduceat(digits, starts) > 11) | (np.minimum.reduceat(runs, firsts) < 0)
    pixels[whole] = np.where(bad, -1, np.add.reduceat(runs, firsts))
    return pixels
