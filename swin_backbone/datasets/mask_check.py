"""Check the masks of annotations in COCO's format: polygons, and run lengths as numbers or as text."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swin_backbone.datasets.problems import Findings

CHUNK = 20_000
"""Number of masks that are checked at a time: enough for fast numpy operations with little memory."""

FAR = 10
"""A polygon with a value above this many times the image's longer side is an error; rasterising it would need much
memory."""

Describe = Callable[[int], str]


def is_number(value: Any) -> bool:
    """Whether a value is a number that fits a float; NaN and infinity are included."""
    return isinstance(value, float) or (type(value) is int and abs(value) < 1 << 1000)


def check_masks(
    findings: Findings, masks: Sequence[Any], sizes: NDArray[np.float64], describe: Callable[[int, Any], str]
) -> None:
    """Report masks that cannot be read.

    Args:
        findings: problems are added to it.
        masks: the `segmentation` of every annotation; None if it has none.
        sizes: width and height of their images, [N, 2].
        describe: from the index of an annotation and an invalid value to a description.
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
    """Checks of the polygons of annotations, in chunks.

    Args:
        findings: problems are added to it.
        masks: the `segmentation` of every annotation.
        sizes: width and height of their images, [N, 2].
        describe: from the index of an annotation to a description.
    """

    def __init__(
        self, findings: Findings, masks: Sequence[Any], sizes: NDArray[np.float64], describe: Describe
    ) -> None:
        self.findings, self.masks, self.describe = findings, masks, describe
        self.reach = FAR * sizes.max(axis=1, initial=1)
        self.not_nested: list[int] = []
        self.small: list[int] = []
        self.partly: list[int] = []
        self.not_numbers: list[int] = []
        self.infinite: list[int] = []
        self.far: list[int] = []

    def check(self, indices: Sequence[int]) -> None:
        """Check the masks with these indices, and report problems."""
        for start in range(0, len(indices), CHUNK):
            self.check_chunk(indices[start : start + CHUNK])
        nested = 'a segmentation is a list of polygons, each a list of numbers, [[x1, y1, x2, y2, ...]]'
        at_least = (
            'a polygon needs x and y of at least three points: correct them, or train on boxes alone with --no-masks'
        )
        correct = 'correct or remove them'
        self.report('with polygons that are not lists in a list', nested, self.not_nested)
        self.report('with polygons of fewer than three points or an odd number of values', at_least, self.small)
        self.report('with values in a polygon that are not numbers', correct, self.not_numbers)
        self.report('with a NaN or infinite value in a polygon', correct, self.infinite)
        self.report(f'with a polygon further than {FAR} image sizes from the image', correct, self.far)
        self.report(
            'with one polygon of fewer than three points among others', 'that polygon is skipped', self.partly, False
        )

    def report(self, phrase: str, remedy: str, indices: Sequence[int], fatal: bool = True) -> None:
        """Report problems of one kind."""
        self.findings.add('annotation', phrase, remedy, indices, self.describe, fatal)

    def check_chunk(self, indices: Sequence[int]) -> None:
        """Sort the masks of a chunk by their problems."""
        masks = [self.masks[index] for index in indices]
        if not set(map(type, chain.from_iterable(masks))) <= {list}:
            invalid = {i for i, mask in zip(indices, masks, strict=True) if not all(type(p) is list for p in mask)}
            self.not_nested += sorted(invalid)
            indices = [index for index in indices if index not in invalid]
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
            parts = [part for part, skipped in zip(parts, short, strict=True) if not skipped]
            owners, lengths = owners[~short], lengths[~short]
        self.check_values(parts, owners, lengths)

    def check_values(self, parts: list[list[Any]], owners: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        """Sort polygons by problems of their values."""
        values = as_floats(parts)
        if values is None:
            right = np.array([all(map(is_number, part)) for part in parts])
            self.not_numbers += unique(owners[~right])
            parts = [part for part, good in zip(parts, right, strict=True) if good]
            owners, lengths = owners[right], lengths[right]
            values = np.array(list(chain.from_iterable(parts)), np.float64)
        if len(parts):
            reach = np.maximum.reduceat(np.abs(values), np.cumsum(lengths) - lengths)  # NaN if any value is NaN
            self.infinite += unique(owners[~np.isfinite(reach)])
            self.far += unique(owners[np.isfinite(reach) & (reach > self.reach[owners])])


def as_floats(parts: Sequence[Sequence[Any]]) -> NDArray[np.float64] | None:
    """Concatenate the values of lists; None if some are not numbers."""
    try:
        values = np.array(list(chain.from_iterable(parts)))
    except ValueError:  # the values contain lists of different lengths
        return None
    return values.astype(np.float64) if values.ndim == 1 and values.dtype.kind in 'iuf' else None


def unique(indices: NDArray[np.int64]) -> list[int]:
    """Return the distinct indices in order."""
    return [int(index) for index in np.unique(indices)]


def check_runs(
    findings: Findings,
    masks: Sequence[Any],
    sizes: NDArray[np.float64],
    describe: Describe,
    indices: Sequence[int],
) -> None:
    """Report run lengths without a size, with a wrong size, or that do not fill the image."""
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
        'with run lengths whose size differs from the image',
        'size is [height, width] of the image: correct or remove them',
        other,
        lambda index: f'{describe(index)} in an image of {sizes[index][0]:g}x{sizes[index][1]:g}',
    )
    findings.add(
        'annotation',
        'with run lengths that do not fill the image',
        'counts must be whole numbers whose sum is height times width: correct or remove them',
        sorted(damaged),
        describe,
    )


def pixels_of(texts: Sequence[str]) -> NDArray[np.int64]:
    """Return the number of pixels that compressed run lengths cover; -1 for those that are damaged.

    pycocotools reads past the end of damaged run lengths.
    """
    pixels = np.full(len(texts), -1, np.int64)
    # Each character encodes six bits, starting at '0': five bits of a number, low ones first, and a continuation bit.
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
    for parity in (1, 0):  # from the fourth number on, differences to the number two places before are stored
        chosen = (place % 2 == parity) & (place > 0)
        sums = np.cumsum(np.where(chosen, values, 0))
        runs += np.where(chosen, sums - np.repeat(sums[firsts], numbers), 0)
    bad = (np.minimum.reduceat(codes, starts) < 0) | (np.maximum.reduceat(codes, starts) > 63)
    bad |= (np.maximum.reduceat(digits, starts) > 11) | (np.minimum.reduceat(runs, firsts) < 0)
    pixels[whole] = np.where(bad, -1, np.add.reduceat(runs, firsts))
    return pixels
