"""Checking real-world image files and label maps: errors, notes and accepted files."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from swin_backbone.datasets.image_check import check_images, problem_of, sampled
from swin_backbone.datasets.label_map_check import check_maps
from swin_backbone.datasets.problems import Findings

SIZE = (40, 30)
Maker = Callable[[Path], None]


def photo(path: Path, mode: str = 'RGB', size: tuple[int, int] = SIZE, orientation: int = 1) -> None:
    """Save a noisy image, so that the file is not tiny."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)


def truncated(path: Path, share: float, suffix: str) -> None:
    whole = path.with_name(f'whole{suffix}')
    photo(whole)
    path.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])


def sixteen_bits(path: Path, highest: int, kind: type = np.uint16) -> None:
    values = np.random.default_rng(0).random((SIZE[1], SIZE[0], 3)) * highest
    cv2.imwrite(str(path), values.astype(kind))


FILES: dict[str, tuple[str, Maker, str]] = {
    'empty': ('a.jpg', Path.touch, '1 image that cannot be read (a.jpg: empty): replace them'),
    'text': ('a.jpg', lambda path: path.write_text('not an image'), '(a.jpg: a damaged image)'),
    'of another kind': ('a.pdf', lambda path: path.write_text('%PDF'), '(a.pdf: not an image)'),
    'a JPEG without its second half': ('a.jpg', lambda path: truncated(path, 0.5, '.jpg'), '(a.jpg: cut off)'),
    'a PNG without its second half': ('a.png', lambda path: truncated(path, 0.5, '.png'), '(a.png: cut off)'),
    'only the first bytes': ('a.jpg', lambda path: truncated(path, 0.02, '.jpg'), '(a.jpg: '),
    'a folder': ('a.jpg', Path.mkdir, '(a.jpg: Is a directory)'),
    'floating-point': ('a.tif', lambda path: sixteen_bits(path, 1, np.float32), 'an unsupported image type (float32)'),
    'of another size': (
        'a.png',
        lambda path: photo(path, size=(20, 15)),
        '1 image with a size that differs from the annotations (a.png: 20x15, annotated as 40x30): write the actual',
    ),
    'rotated by 90 degrees': (
        'a.jpg',
        lambda path: photo(path, orientation=6),
        "1 photo rotated by EXIF orientation (a.jpg: 30x40, annotated as 40x30): the annotations refer to the stored "
        "pixels: set color_type='color_ignore_orientation'",
    ),
}  # fmt: skip


def findings_of(path: Path, decode: bool = True, size: tuple[int, int] = SIZE) -> Findings:
    findings = Findings('data')
    check_images(findings, [(str(path), size)], decode)
    return findings


@pytest.mark.parametrize('kind', FILES)
def test_invalid_image_files_are_an_error(kind: str, tmp_path: Path) -> None:
    name, make, expected = FILES[kind]
    make(tmp_path / name)
    assert expected in findings_of(tmp_path / name).sentence


READ: dict[str, tuple[str, Maker]] = {
    'grey': ('a.png', lambda path: photo(path, 'L')),
    'CMYK': ('a.jpg', lambda path: photo(path, 'CMYK')),
    'palette': ('a.png', lambda path: photo(path, 'P')),
    'transparent': ('a.png', lambda path: photo(path, 'RGBA')),
    'one bit': ('a.png', lambda path: photo(path, '1')),
    '16 bits': ('a.png', lambda path: sixteen_bits(path, 65535)),
    '16 signed bits': ('a.tif', lambda path: cv2.imwrite(str(path), np.full((30, 40), 9000, np.int16))),
    'a PNG called .jpg': ('a.jpg', lambda path: truncated(path, 1.0, '.png')),
}  # fmt: skip


@pytest.mark.parametrize('kind', READ)
def test_valid_image_files_are_accepted(kind: str, tmp_path: Path) -> None:
    name, make = READ[kind]
    make(tmp_path / name)
    for decode in (False, True):
        findings = findings_of(tmp_path / name, decode)
        assert (findings.sentence, findings.notes) == ('', [])
    assert problem_of(str(tmp_path / name)) == ''


NOTED: dict[str, tuple[str, Maker, tuple[int, int], str]] = {
    'dark': ('a.tif', lambda path: sixteen_bits(path, 4095), SIZE, '1 image of 12 bits stored in 16 (a.tif)'),
    'long': ('a.png', lambda path: photo(path, size=(2000, 10)), (2000, 10), '200 times as long as wide'),
    'rotated by 180 degrees': ('a.jpg', lambda path: photo(path, orientation=3), SIZE, 'EXIF orientation (a.jpg: 3)'),
    'rotated with its annotations': ('a.jpg', lambda path: photo(path, orientation=6), (30, 40), '(a.jpg: 6)'),
}  # fmt: skip


@pytest.mark.parametrize('kind', NOTED)
def test_unusual_image_files_are_noted(kind: str, tmp_path: Path) -> None:
    name, make, size, expected = NOTED[kind]
    make(tmp_path / name)
    findings = findings_of(tmp_path / name, size=size)
    assert findings.sentence == '' and len(findings.notes) == 1 and expected in findings.notes[0]


def test_one_pixel_images_and_ignored_orientations_are_accepted(tmp_path: Path) -> None:
    photo(tmp_path / 'a.png', size=(1, 1))
    assert findings_of(tmp_path / 'a.png', size=(1, 1)).found == []
    photo(tmp_path / 'b.jpg', orientation=6)
    findings = Findings('data')
    check_images(findings, [(str(tmp_path / 'b.jpg'), SIZE)], decode=True, turned=False)
    assert findings.found == []


def save(values: np.ndarray, mode: str | None = None) -> Maker:
    def make(path: Path) -> None:
        image = Image.fromarray(values)
        (image.convert(mode) if mode else image).save(path)

    return make


LABELS = np.tile(np.array([0, 1, 2, 255], np.uint8), (SIZE[1], SIZE[0] // 4))
MAPS: dict[str, tuple[str, Maker, str]] = {
    'colours': (
        'a.png',
        save(np.stack([LABELS] * 3, axis=-1)),
        '1 label map with colours (a.png is a colour image with 3 channels, but label maps have one): convert colours',
    ),
    'transparency': ('a.png', save(LABELS, 'LA'), 'a.png is a colour image with 2 channels'),
    'floats': ('a.tif', save(LABELS.astype(np.float32)), '1 label map of floating-point numbers (a.tif)'),
    'another size': ('a.png', save(LABELS[:20]), 'size that differs from the image (a.png: 40x20, its image 40x30)'),
    'a label beyond the classes': ('a.png', save(LABELS + (LABELS == 2)), '(a.png: label 3): 3 classes'),
    '16-bit labels': ('a.png', save(LABELS.astype(np.uint16) * 300), '1 label map with labels beyond the classes'),
    'no image': ('a.png', lambda path: path.write_text('labels'), '1 label map that cannot be read (a.png: a damaged'),
    'nothing': ('a.png', Path.touch, '1 label map that cannot be read (a.png: empty)'),
    'half a file': ('a.png', lambda path: truncated(path, 0.6, '.png'), '1 label map '),
}  # fmt: skip


def label_map_error(path: Path, highest: int | None = 2, orientation: int = 1) -> str:
    photo(path.with_name('image.jpg'), orientation=orientation)
    findings = Findings('maps')
    meaning = '3 classes have the labels 0 to 2'
    check_maps(findings, [(str(path.with_name('image.jpg')), str(path))], highest, meaning)
    return findings.sentence


@pytest.mark.parametrize('kind', MAPS)
def test_invalid_label_maps_are_an_error(kind: str, tmp_path: Path) -> None:
    name, make, expected = MAPS[kind]
    make(tmp_path / name)
    assert expected in label_map_error(tmp_path / name)


@pytest.mark.parametrize('values', [LABELS, LABELS > 1, LABELS.astype(np.uint16)], ids=['bytes', 'bits', '16 bits'])
def test_valid_label_maps_are_accepted(values: np.ndarray, tmp_path: Path) -> None:
    save(values)(tmp_path / 'a.png')
    assert label_map_error(tmp_path / 'a.png') == ''


def test_a_rotated_photo_with_an_unrotated_label_map_is_an_error(tmp_path: Path) -> None:
    save(LABELS)(tmp_path / 'a.png')
    sentence = label_map_error(tmp_path / 'a.png', orientation=6)
    assert 'a.png: 40x30, its image 30x40, rotated by its EXIF orientation' in sentence
    save(LABELS + (LABELS == 2))(tmp_path / 'a.png')
    assert label_map_error(tmp_path / 'a.png', highest=None) == ''


def test_samples_are_evenly_spaced_and_deterministic() -> None:
    assert sampled(range(10), 20) == list(range(10))
    assert sampled(range(101), 5) == [0, 25, 50, 75, 100] == sampled(range(101), 5)
