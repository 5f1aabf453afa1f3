"""Check that image files can be read and have the size that their annotations state."""

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
"""Suffixes of image files."""

ORIENTATION = 0x0112
"""EXIF tag for the orientation of a photo."""

LONG = 200
"""Aspect ratio from which the short side may become zero when an image is resized."""

DARK = 1 << 12
"""Upper bound of 12-bit values, which are nearly black in a 16-bit image."""


class Header(NamedTuple):
    """Properties of an image file.

    Attributes:
        size: width and height as stored.
        orientation: EXIF orientation; 1 is upright, 5 to 8 swap width and height.
        problem: why the file cannot be read; empty if it can.
        dark: whether its 16-bit values only use 12 bits; set only after decoding.
    """

    size: tuple[int, int] = (0, 0)
    orientation: int = 1
    problem: str = ''
    dark: bool = False

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height after rotation by the EXIF orientation."""
        return self.size[::-1] if self.orientation >= 5 else self.size


@contextmanager
def large_images() -> Iterator[None]:
    """Disable Pillow's limit on the number of pixels; the toolkits' reader has its own."""
    from PIL import Image

    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def read_header(path: str, decode: bool = False) -> Header:
    """Read the header of an image file; with ``decode``, also read the whole file to find out if it is truncated."""
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
                    image.draft('L', (1, 1))  # a JPEG is read completely, but decoded only at a low resolution
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
    """Return why a file cannot be read as an image; an empty string if it can."""
    if not os.path.isfile(path):
        return 'not there'
    return read_header(path).problem or problem_and_darkness(Path(path))[0]


def problem_and_darkness(path: Path, otherwise: str = '') -> tuple[str, bool]:
    """Decode a file with OpenCV, like the toolkits.

    Args:
        path: the file.
        otherwise: the reason to return if OpenCV is not installed.

    Returns:
        Why the file cannot be read as an image (empty if it can), and whether its 16-bit values only use 12 bits.
    """
    try:
        import cv2
    except ImportError:
        return otherwise, False
    data = np.fromfile(path, np.uint8)
    if len(data) == 0:
        return 'empty', False
    console = getattr(cv2.utils, 'logging', cv2)  # OpenCV 5 or OpenCV 4
    level = console.getLogLevel()
    console.setLogLevel(0)  # silent
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
        stored = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    finally:
        console.setLogLevel(level)
    if stored is not None and (image is None or stored.dtype.kind == 'f'):
        # OpenCV 4 reads floating-point images, and rounds their values to integers.
        return f'an unsupported image type ({stored.dtype}): save it with 8 bits per channel', False
    if image is None:
        return ('a damaged image' if path.suffix.lower() in ENDINGS else 'not an image'), False
    return '', stored is not None and stored.dtype == np.uint16 and 0 < stored.max() < DARK


def read_headers(paths: Sequence[str], decode: bool) -> list[Header]:
    """Read the headers of files in several threads."""
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
    """Return a progress bar, which is hidden unless ``slow`` and ``total`` is at least 1000."""
    return progress_bar(description, total, unit=' files', disable=not slow or total < 1000)


def check_images(
    findings: Findings,
    files: Sequence[tuple[str, tuple[int, int] | None]],
    decode: bool,
    turned: bool = True,
    stated: str = 'annotated as',
) -> None:
    """Report files that cannot be read, or whose size differs from their annotations.

    Args:
        findings: problems are added to it.
        files: paths with width and height in the annotations, if known.
        decode: whether to read files completely.
        turned: whether the pipeline rotates photos by their EXIF orientation.
        stated: words between the two sizes in a message.
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
        'with a size that differs from the annotations',
        'write the actual sizes, or use the files that were annotated',
        other,
    )
    remedy = (
        "the annotations refer to the stored pixels: set color_type='color_ignore_orientation' in LoadImageFromFile of "
        'every pipeline, or save the images upright and annotate them again'
    )
    findings.add('photo', 'rotated by EXIF orientation', remedy, rotated)
    findings.add(
        'photo',
        'with an EXIF orientation',
        'images are rotated when loaded, so the annotations must refer to the rotated image',
        kept,
        fatal=False,
    )
    findings.add(
        'image', f'{LONG} times as long as wide', 'resizing may reduce the short side to zero', long, fatal=False
    )
    findings.add(
        'image', 'of 12 bits stored in 16', 'nearly black when read: multiply the values by 16', dark, fatal=False
    )


def check_presence(
    findings: Findings, names: Iterable[str], folder: str, root: str
) -> tuple[dict[str, int], list[str]]:
    """Report images that do not exist, and paths outside the data root.

    Returns:
        The modification time of every folder of images, and the names that exist.
    """
    base = os.path.normpath(root)
    changed: dict[str, int] = {}
    listed: dict[str, set[str]] = {}
    absent, outside, there = [], [], []
    for name in names:
        place, _, file = os.path.join(folder, name).rpartition('/')
        if place not in listed:
            listed[place] = names_in(place)
            if os.path.isdir(place):
                changed[place] = os.stat(place).st_mtime_ns
        if os.path.relpath(place or '.', base).startswith('..'):
            outside.append(name)
        elif file not in listed[place]:
            absent.append(name)
        else:
            there.append(name)
    findings.add(
        'file_name',
        f'outside the data root {base}',
        'write paths relative to the folder of images, without ..',
        outside,
    )
    findings.add('image', f'missing from {folder}', remedy_for(absent, folder), absent)
    return changed, there


def names_in(folder: str) -> set[str]:
    """Return the names in a folder; an empty set if it does not exist."""
    if not os.path.isdir(folder or '.'):
        return set()
    with os.scandir(folder or '.') as entries:
        return {entry.name for entry in entries}


def remedy_for(absent: Sequence[str], folder: str) -> str:
    """Return what to do about image names that do not exist in ``folder``, from the first of them."""
    name = absent[0] if absent else ''
    own = os.path.basename(os.path.normpath(folder))
    if '\\' in name:
        return 'their names have backslashes: write /'
    if name.startswith(f'{own}/') and os.path.exists(os.path.join(folder, name[len(own) + 1 :])):
        return f'their names start with {own}/, but the folder of images already ends with it: remove one of the two'
    place, file = os.path.split(os.path.join(folder, name))
    alike = {one for one in names_in(place) if Path(one).stem.lower() == Path(file).stem.lower()}
    if alike:
        return f'there is {min(alike)}: write the names of the files exactly'
    return 'copy the images there, or remove them from the annotations'


def sampled(items: Sequence[Any], most: int) -> list[Any]:
    """Return at most ``most`` items, evenly spaced and always the same."""
    return [items[round(index)] for index in np.linspace(0, len(items) - 1, most)] if len(items) > most else list(items)
