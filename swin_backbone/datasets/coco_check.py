"""Check an annotation file in COCO's format in one pass: ids, categories, sizes and boxes."""

import gc
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swin_backbone.datasets.mask_check import check_masks, is_number
from swin_backbone.datasets.problems import Findings, duplicates, quoted
from swin_backbone.errors import InputError

IMAGE_KEYS = {'id', 'file_name', 'width', 'height'}
ANNOTATION_KEYS = {'image_id', 'category_id', 'bbox'}
CATEGORY_KEYS = {'id', 'name'}
FAR = 100
"""A box with a value above this many times the image's longer side is an error."""

CORRECT = 'correct or remove them'


@dataclass
class Annotations:
    """The result of checking an annotation file.

    Attributes:
        findings: the problems.
        images: file name, width and height of each image.
        objects: number of objects to train on, by category name.
        annotations: number of all annotations, including those that are not trained on.
    """

    findings: Findings
    images: list[tuple[str, int, int]] = field(default_factory=list)
    objects: dict[str, int] = field(default_factory=dict)
    annotations: int = 0


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Disable garbage collection, which would search millions of new lists for cycles."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def read_annotations(path: Path, labelled: bool = True) -> dict[str, Any]:
    """Return the content of an annotation file.

    Args:
        path: the file.
        labelled: whether it must have annotations.

    Raises:
        InputError: if it is not JSON, or has no lists of images, annotations and categories.
    """
    remedy = 'export or copy it again'
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise InputError(f'{path} cannot be read ({error.strerror}): check its permissions.') from error
    except UnicodeDecodeError as error:
        raise InputError(f'{path} is not UTF-8 text (byte {error.start}), as JSON must be: {remedy}.') from error
    except json.JSONDecodeError as error:
        if not error.doc.strip():
            raise InputError(f'{path} is empty: {remedy}.') from error
        place = f'line {error.lineno}, column {error.colno}: {error.msg}'
        if error.pos >= len(error.doc.rstrip()) - 1 or error.msg.startswith('Unterminated'):
            raise InputError(f'{path} is truncated ({place}), as after an interrupted copy: {remedy}.') from error
        raise InputError(f'{path} is not valid JSON ({place}): {remedy}.') from error
    except RecursionError as error:
        raise InputError(f'{path} is nested too deeply for an annotation file: {remedy}.') from error
    parts = ('images', 'annotations', 'categories') if labelled else ('images',)
    expected = f'an annotation file in the format of COCO is a dict with the lists {", ".join(parts)}'
    if not isinstance(content, dict):
        found = 'a list, like a file of predictions' if isinstance(content, list) else quoted(content)
        raise InputError(f'{path} is {found}: {expected}.')
    for part in parts:
        if part not in content:
            raise InputError(
                f'{path} has no {part}, only {", ".join(list(content)[:6]) or "an empty dict"}: {expected}.'
            )
        if not isinstance(content[part], list):
            raise InputError(f'{path}: {part} is a {type(content[part]).__name__}: {expected}.')
    empty = [part for part in parts if part != 'annotations' and not content[part]]
    if empty:
        raise InputError(f'{path} lists no {empty[0]}: {expected}; only annotations may be empty.')
    return content


@without_garbage_collection()
def check_annotations(path: Path, masks: bool, labelled: bool = True) -> Annotations:
    """Check an annotation file.

    Args:
        path: the file.
        masks: whether to check the masks of its annotations.
        labelled: whether it must have annotations.

    Raises:
        InputError: if it cannot be read at all.
    """
    content = read_annotations(path, labelled)
    report = Annotations(Findings(str(path)))
    images = complete_entries(content['images'], IMAGE_KEYS, 'image', report.findings)
    rows = index_ids(images, 'image', report.findings)
    sizes = check_image_entries(images, report)
    if labelled:
        categories = complete_entries(content['categories'], CATEGORY_KEYS, 'category', report.findings)
        check_category_names(categories, report.findings)
        kinds = index_ids(categories, 'category', report.findings)
        entries = complete_entries(content['annotations'], ANNOTATION_KEYS, 'annotation', report.findings)
        report.annotations = len(content['annotations'])
        check = AnnotationCheck(entries, images, sizes, report.findings)
        owners = check.rows_of('image_id', rows, 'image')
        labels = check.rows_of('category_id', kinds, 'category')
        check.check_ids()
        trained = check.check_boxes(owners)
        if masks:
            known = owners >= 0
            chosen = np.flatnonzero(known).tolist()
            segmentations = [entries[index].get('segmentation') for index in chosen]
            check_masks(
                report.findings,
                segmentations,
                sizes[owners[known]],
                lambda index, value: f'{check.name(chosen[index])}: {quoted(value)}',
            )
        counts = Counter(labels[trained & (labels >= 0)].tolist())
        report.objects = {str(category['name']): counts[row] for row, category in enumerate(categories)}
    return report


def complete_entries(entries: Sequence[Any], keys: set[str], noun: str, findings: Findings) -> list[dict[str, Any]]:
    """Return the entries that are dicts with all ``keys``; report the others."""
    if all(type(one) is dict and keys <= one.keys() for one in entries):
        return list(entries)
    good, invalid = [], []
    absent: dict[str, list[int]] = {}
    for number, one in enumerate(entries):
        if not isinstance(one, dict):
            invalid.append(number)
        elif missing := keys - one.keys():
            absent.setdefault(min(missing), []).append(number)
        else:
            good.append(one)

    def show(number: int) -> str:
        return f'number {number}: {quoted(entries[number])}'

    needed = ', '.join(sorted(keys))
    findings.add(noun, 'not stored as a dict', f'an entry is a dict with {needed}', invalid, show)
    for key, numbers in absent.items():
        findings.add(noun, f'without {key}', f'every entry needs {needed}', numbers, show)
    return good


def index_ids(entries: Sequence[dict[str, Any]], noun: str, findings: Findings) -> dict[Any, int]:
    """Return the index of each entry by its id."""
    invalid = [one['id'] for one in entries if not isinstance(one['id'], (int, float, str))]
    findings.add(noun, 'with an id that is neither a number nor a string', 'use numbers as ids', invalid, quoted)
    ids = [one['id'] for one in entries]
    found = {number: row for row, number in enumerate(ids) if isinstance(number, (int, float, str))}
    if len(found) + len(invalid) < len(ids):
        remedy = f'every {noun} needs a unique id: renumber them'
        findings.add(
            f'{noun} id',
            'used more than once',
            remedy,
            duplicates(one for one in ids if isinstance(one, (int, float, str))),
            quoted,
        )
    return found


def check_image_entries(images: Sequence[dict[str, Any]], report: Annotations) -> NDArray[np.float64]:
    """Check names and sizes of images.

    Returns:
        Widths and heights, [N, 2]; invalid ones are replaced by 1.
    """
    findings, names = report.findings, [image['file_name'] for image in images]
    invalid = [name for name in names if not isinstance(name, str) or not name]
    findings.add(
        'image',
        'with a file_name that is not text',
        'file_name is a path relative to the folder of images',
        invalid,
        quoted,
    )
    if not invalid and len(set(names)) < len(names):
        findings.add(
            'file', 'listed as several images', 'merge their annotations under one id', duplicates(names), fatal=False
        )
    sizes, bad = numbers([[image['width'], image['height']] for image in images], 2)
    bad = sorted({*bad, *np.flatnonzero((sizes < 1).any(axis=1) | (sizes % 1 != 0).any(axis=1)).tolist()})
    sizes[bad] = 1

    def show(row: int) -> str:
        return f'{names[row]}: {quoted(images[row]["width"])} x {quoted(images[row]["height"])}'

    findings.add(
        'image', 'with a width or height that is not a whole number of pixels', 'use those of the file', bad, show
    )
    if not invalid and not bad:
        whole = sizes.astype(np.int64).tolist()
        report.images = [(name, width, height) for name, (width, height) in zip(names, whole, strict=True)]
    return sizes


def check_category_names(categories: Sequence[dict[str, Any]], findings: Findings) -> None:
    """Check that category names are strings and unique."""
    names = [category['name'] for category in categories]
    invalid = [name for name in names if not isinstance(name, str)]
    findings.add('category', 'with a name that is not text', 'use strings as names', invalid, quoted)
    if not invalid:
        remedy = 'MMDetection would number the classes wrongly: merge or rename them'
        findings.add('category name', 'used more than once', remedy, duplicates(names), quoted)


class AnnotationCheck:
    """Checks of the annotations of a file against its images.

    Args:
        entries: annotations with all required keys.
        images: images with all required keys.
        sizes: width and height of the images, [N, 2].
        findings: problems are added to it.
    """

    def __init__(
        self,
        entries: Sequence[dict[str, Any]],
        images: Sequence[dict[str, Any]],
        sizes: NDArray[np.float64],
        findings: Findings,
    ) -> None:
        self.entries, self.images, self.sizes, self.findings = entries, images, sizes, findings
        self.owners = np.full(len(entries), -1)

    def name(self, index: int) -> str:
        """Return a description of an annotation with its id and the file of its image."""
        one, owner = self.entries[index], self.owners[index]
        number = f'id {quoted(one["id"])}' if 'id' in one else f'number {index}'
        return f'{number} of {self.images[owner]["file_name"]}' if owner >= 0 else number

    def show(self, key: str) -> Callable[[int], str]:
        """Return a function that describes an annotation with the value of ``key``."""
        return lambda index: f'{self.name(index)}: {quoted(self.entries[index].get(key))}'

    def rows_of(self, key: str, known: dict[Any, int], noun: str) -> NDArray[np.int64]:
        """Return the rows that annotations refer to by ``key``; unknown ones are -1 and reported."""
        values = [one[key] for one in self.entries]
        if not set(map(type, values)) <= {int, float, str}:
            values = [value if isinstance(value, (int, float, str)) else None for value in values]
        rows = np.array([known.get(value, -1) for value in values], np.int64)
        if key == 'image_id':
            self.owners = rows
        unknown = np.flatnonzero(rows < 0).tolist()
        texts = {str(one): one for one in known} if unknown else {}
        other = [index for index in unknown if str(values[index]) in texts]
        if other:
            value, listed = values[other[0]], texts[str(values[other[0]])]
            remedy = f'{quoted(value)} is not {quoted(listed)}: write ids as numbers, or as text, in both places'
            phrase = f'whose {key} is of another type than the ids of the {noun} list'
            self.findings.add('annotation', phrase, remedy, other, self.show(key))
        strays = sorted(set(unknown) - set(other))
        remedy = f'add the {noun} to the list, or remove these annotations'
        self.findings.add('annotation', f'with an unknown {key}', remedy, strays, self.show(key))
        return rows

    def check_ids(self) -> None:
        """Check the ids of the annotations."""
        ids = [one.get('id') for one in self.entries]
        invalid = [index for index, one in enumerate(ids) if not isinstance(one, (int, float, str, type(None)))]
        self.findings.add(
            'annotation', 'with an id that is neither a number nor a string', CORRECT, invalid, self.show('id')
        )
        if not invalid:
            renumbered = 'all are renumbered in memory'
            twice = duplicates(one for one in ids if one is not None)
            absent = [index for index, one in enumerate(ids) if one is None]
            self.findings.add('annotation id', 'used more than once', renumbered, twice, quoted, fatal=False)
            self.findings.add('annotation', 'without an id', renumbered, absent, self.name, fatal=False)

    def check_boxes(self, owners: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Check boxes, areas and flags.

        Returns:
            Mask of the annotations that MMDetection trains on, [N].
        """
        boxes, bad = numbers([one['bbox'] for one in self.entries], 4)
        remedy = 'a box is [x, y, width, height] in pixels: correct or remove them'
        self.findings.add('annotation', 'with a bbox that is not four finite numbers', remedy, bad, self.show('bbox'))
        good = owners >= 0
        good[bad] = False
        size = self.sizes[owners] if len(self.images) else np.ones((len(owners), 2))
        start, end = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
        far = good & ((np.abs(boxes) > FAR * size.max(axis=1, initial=1)[:, None]).any(axis=1))
        phrase = f'with a bbox further than {FAR} image sizes from the image'
        self.findings.add('annotation', phrase, remedy, np.flatnonzero(far).tolist(), self.show('bbox'))
        self.check_units(boxes[good & ~far], size[good & ~far])
        areas, bad = numbers([one.get('area', 1.0) for one in self.entries], 0)
        self.findings.add('annotation', 'with an area that is not a finite number', CORRECT, bad, self.show('area'))
        flags = [one.get('iscrowd', 0) for one in self.entries]
        odd = [index for index, flag in enumerate(flags) if flag not in (0, 1)]
        self.findings.add('annotation', 'with an iscrowd that is not 0 or 1', CORRECT, odd, self.show('iscrowd'))
        crowd = np.fromiter((flag == 1 for flag in flags), bool, len(flags))
        ignored = np.fromiter((bool(one.get('ignore')) for one in self.entries), bool, len(flags))
        # In the order of CocoDataset.parse_data_info.
        overlap = np.minimum(end, size) - np.maximum(start, 0)
        thin = good & (boxes[:, 2:] < 1).any(axis=1)
        outside = good & ~thin & (overlap <= 0).any(axis=1)
        empty = good & ~thin & ~outside & (areas <= 0)
        dropped = 'MMDetection does not train on them'
        for phrase, chosen, key in (
            ('with a bbox less than one pixel wide or high', thin, 'bbox'),
            ('with a bbox outside its image', outside, 'bbox'),
            ('with an area of 0 or less', empty, 'area'),
            ('with the flag ignore', ignored, 'ignore'),
        ):
            self.findings.add(
                'annotation', phrase, dropped, np.flatnonzero(chosen).tolist(), self.show(key), fatal=False
            )
        crowds = np.flatnonzero(crowd).tolist()
        self.findings.add('crowd', '(iscrowd 1)', 'neither trained on nor scored', crowds, self.name, fatal=False)
        return good & ~(far | thin | outside | empty | ignored | crowd)

    def check_units(self, boxes: NDArray[np.float64], size: NDArray[np.float64]) -> None:
        """Report boxes in fractions of the image size, and boxes given by two corners."""
        if not len(boxes):
            return

        def show(box: NDArray[np.float64]) -> str:
            return str(box.tolist())

        expected = 'a box is [x, y, width, height] in pixels: convert them'
        if boxes.max() <= 1 and (boxes[:, 2:] > 0).all() and size.max() > 2:
            self.findings.add('annotation', 'with a bbox in fractions of the image size', expected, list(boxes), show)
        corners = (boxes[:, 2:] > boxes[:, :2]).all()
        if corners and ((boxes[:, :2] + boxes[:, 2:]) > 1.1 * size).any(axis=1).mean() > 0.5:
            self.findings.add('annotation', 'with a bbox that seems to be two corners', expected, list(boxes), show)


def numbers(rows: Sequence[Any], width: int) -> tuple[NDArray[np.float64], list[int]]:
    """Convert rows of ``width`` finite numbers to an array [N, width]; for a width of 0, numbers to [N].

    Returns:
        The array, with zeros for rows that are invalid, and the indices of those rows.
    """
    shape = (len(rows), width) if width else (len(rows),)
    try:
        values = np.array(rows)
    except ValueError:  # rows of different lengths
        values = np.empty(0)
    if values.shape == shape and values.dtype.kind in 'iuf':
        values = values.astype(np.float64)
    else:
        kept = [row if is_row(row, width) else [0.0] * width if width else 0.0 for row in rows]
        values = np.array(kept, np.float64).reshape(shape)
        values[[index for index, row in enumerate(rows) if not is_row(row, width)]] = np.nan
    finite = np.isfinite(values).all(axis=1) if width else np.isfinite(values)
    values[~finite] = 0
    return values, np.flatnonzero(~finite).tolist()


def is_row(row: Any, width: int) -> bool:
    """Whether a value is a list of ``width`` numbers, or for a width of 0 a number."""
    if not width:
        return is_number(row)
    return isinstance(row, list) and len(row) == width and all(map(is_number, row))
