"""Check image files: whether they can be read, and whether their size is the one that annotations were made for."""

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from swin_backbone.datasets.problems import Findings
from swin_backbone.files import progress_bar

ENDINGS = {'.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp'}
"""Of files that were meant to be images."""

ORIENTATION = 0x0112
"""EXIF's tag for how a photo is to be turned."""

LONG = 200
"""Ratio of sides from which the short side may vanish when an image is resized."""

DARK = 1 << 12
"""Values of a 12-bit camera: shown in 16 bits they are nearly black."""


class Header(NamedTuple):
    """The content of an image file's header.

    Attributes:
        size: width and height as stored.
        orientation: EXIF's; 1 is upright, 5 to 8 swap width and height.
        problem: why the file cannot be read; empty if it can.
        dark: whether its values of 16 bits are those of a 12-bit camera; known only after decoding.
    """

    size: tuple[int, int] = (0, 0)
    orientation: int = 1
    problem: str = ''
    dark: bool = False

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height as loaded, turned by the orientation."""
        return self.size[::-1] if self.orientation >= 5 else self.size


@contextmanager
def large_images() -> Iterator[None]:
    """Without Pillow's limit of pixels; the toolkits' reader has its own."""
    from PIL import Image

    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def read_header(path: str, decode: bool = False) -> Header:
    """Read the head of an image file, and decode it if asked, to find out whether it is cut off."""
    from PIL import Image, UnidentifiedImageError

    try:
        if os.path.getsize(path) == 0:
            return Header(problem='empty')
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            with Image.open(path) as image:
                size, orientation = image.size, 1
                if image.format in ('JPEG', 'MPO') or 'exif' in image.info:
                    orientation = max(1, min(8, int(image.getexif().get(ORIENTATION, 1))))
                if decode:
                    image.draft('L', (1, 1))  # a JPEG is read to its end, but not turned into pixels
                    image.load()
        if decode and path.lower().endswith(('.tif', '.tiff', '.png')):
            return Header(size, orientation, *problem_and_darkness(Path(path)))
    except UnidentifiedImageError:
        return Header(problem=problem_and_darkness(Path(path), 'not an image')[0])
    except OSError as error:
        reason = error.strerror or str(error)
        return Header(problem='cut off' if 'truncated' in reason or 'broken' in reason else reason)
    except (ValueError, SyntaxError, EOFError) as error:
        return Header(problem=f'damaged ({error})')
    return Header(size, orientation)


def problem_of(path: str) -> str:
    """Why a file cannot be read as an image; nothing if it can."""
    if not os.path.isfile(path):
        return 'not there'
    return read_header(path).problem or problem_and_darkness(Path(path))[0]


def problem_and_darkness(path: Path, otherwise: str = '') -> tuple[str, bool]:
    """Why OpenCV, with which the toolkits read, cannot read a file as an image; nothing if it can.

    Args:
        path: the file.
        otherwise: the reason to assume where OpenCV is not installed.

    Returns:
        The reason, and whether the values of 16 bits are those of a 12-bit camera.
    """
    try:
        import cv2
    except ImportError:
        return otherwise, False
    data = np.fromfile(path, np.uint8)
    if len(data) == 0:
        return 'empty', False
    console = getattr(cv2.utils, 'logging', cv2)  # of OpenCV 5, of OpenCV 4
    level = console.getLogLevel()
    console.setLogLevel(0)  # silent
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
        stored = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    finally:
        console.setLogLevel(level)
    if image is not None:
        return '', stored is not None and stored.dtype == np.uint16 and 0 < stored.max() < DARK
    if stored is not None:
        return f'a kind of image that is not read ({stored.dtype}): save it with 8 bits per channel', False
    return ('a damaged image' if path.suffix.lower() in ENDINGS else 'not an image'), False


def read_headers(paths: Sequence[str], decode: bool) -> list[Header]:
    """Read the heads of many files, several at a time."""
    with (
        large_images(),
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
        show_progress('reading images', len(paths), decode) as progress,
    ):
        headers = []
        for header in pool.map(lambda path: read_header(path, decode), paths):
            headers.append(header)
            progress.update()
    return headers


def show_progress(description: str, total: int, slow: bool) -> Any:
    """A progress bar for what takes long."""
    return progress_bar(description, total, unit=' files', disable=not slow or total < 1000)


def check_images(
    findings: Findings,
    files: Sequence[tuple[str, tuple[int, int] | None]],
    decode: bool,
    turned: bool = True,
    stated: str = 'the annotations say',
) -> None:
    """Note files that cannot be read, or that have another size than their annotations.

    Args:
        findings: where they are noted.
        files: path, and width and height by the annotations, if these are known.
        decode: whether to read files to their end.
        turned: whether the pipeline turns photos by their EXIF orientation.
        stated: the source of the other size.
    """
    unreadable: list[str] = []
    other: list[str] = []
    rotated: list[str] = []
    kept, long, dark = [], [], []
    for (path, wanted), header in zip(files, read_headers([path for path, _ in files], decode), strict=True):
        name = os.path.basename(path)
        if header.problem:
            unreadable.append(f'{name}: {header.problem}')
            continue
        if header.dark:
            dark.append(name)
        if header.size == (0, 0):
            continue
        size = header.shown if turned else header.size
        if wanted is not None and size != wanted:
            shown = f'{name}: {size[0]}x{size[1]}, {stated} {wanted[0]}x{wanted[1]}'
            (rotated if header.size == wanted else other).append(shown)
        elif turned and header.orientation != 1:
            kept.append(f'{name}: {header.orientation}')
        if max(size) >= LONG * min(size):
            long.append(f'{name}: {size[0]}x{size[1]}')
    replace = 'replace them, or remove them from the annotations'
    findings.add('image', 'that cannot be read', replace, unreadable)
    findings.add(
        'image',
        'of another size than its annotations',
        'write the sizes of the files, or use the files that were annotated',
        other,
    )
    remedy = (
        "the annotations are of the stored pixels: set color_type='color_ignore_orientation' in LoadImageFromFile of "
        'every pipeline, or save the images upright and annotate them so'
    )
    findings.add('photo', 'that its EXIF orientation turns', remedy, rotated)
    findings.add(
        'photo',
        'with an EXIF orientation',
        'it is turned when it is loaded, as its annotations must be',
        kept,
        fatal=False,
    )
    findings.add(
        'image', f'{LONG} times as long as wide', 'resizing may leave nothing of the short side', long, fatal=False
    )
    findings.add(
        'image', 'of 12 bits stored in 16', 'it is nearly black when read: multiply its values by 16', dark, fatal=False
    )


def check_presence(
    findings: Findings, names: Iterable[str], folder: str, root: str
) -> tuple[dict[str, int], list[str]]:
    """Note images that are not in their folder, and paths that lead out of the data root.

    Returns:
        The time of the last change of every folder that holds images, and the names that are there.
    """
    base = os.path.normpath(root)
    changed: dict[str, int] = {}
    held: dict[str, set[str]] = {}
    absent, outside, there = [], [], []
    for name in names:
        place, _, file = os.path.join(folder, name).rpartition('/')
        if place not in held:
            held[place] = names_in(place)
            if os.path.isdir(place):
                changed[place] = os.stat(place).st_mtime_ns
        if os.path.relpath(place or '.', base).startswith('..'):
            outside.append(name)
        elif file not in held[place]:
            absent.append(name)
        else:
            there.append(name)
    findings.add(
        'file_name',
        f'leading out of the data root {base}',
        'write paths relative to the folder of images, without ..',
        outside,
    )
    findings.add('image', f'missing from {folder}', remedy_for(absent, folder), absent)
    return changed, there


def names_in(folder: str) -> set[str]:
    """The names of the files in a folder; none if it is not there."""
    if not os.path.isdir(folder or '.'):
        return set()
    with os.scandir(folder or '.') as entries:
        return {entry.name for entry in entries}


def remedy_for(absent: Sequence[str], folder: str) -> str:
    """What may be wrong with names of images that are not there."""
    name = absent[0] if absent else ''
    own = os.path.basename(os.path.normpath(folder))
    if '\\' in name:
        return 'their names have backslashes: write /'
    if name.startswith(f'{own}/') and os.path.exists(os.path.join(folder, name[len(own) + 1 :])):
        return f'their names begin with {own}/, which the folder of images ends with: write one of the two'
    place, file = os.path.split(os.path.join(folder, name))
    alike = {one for one in names_in(place) if Path(one).stem.lower() == Path(file).stem.lower()}
    if alike:
        return f'there is {min(alike)}: write names as the files are called'
    return 'copy the images there, or remove them from the annotations'


def sampled(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many items, evenly spread, always the same ones."""
    return [items[round(index)] for index in np.linspace(0, len(items) - 1, most)] if len(items) > most else list(items)
