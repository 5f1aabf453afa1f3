"""Image files and class folders, with the test preprocessing of the original classification code."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from swin_backbone.datasets.image_check import ENDINGS
from swin_backbone.errors import InputError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's pixels between 0 and 1: red, green, blue."""

MARGIN = 256 / 224
"""Ratio of the short side of the resized image to the side of the crop."""

WHOLE = 384
"""Smallest image size that is resized to a square without a crop."""

Item = tuple[Path, int]


def describe_preparation(side: int) -> str:
    """Describe how :func:`prepare` produces images of ``side`` pixels."""
    if side >= WHOLE:
        return f'resized to {side}x{side}'
    return f'short side resized to {int(MARGIN * side)}, centre of {side}x{side}'


def prepare(image: Image.Image, side: int) -> Tensor:
    """Resize, crop and normalise an image for a classifier, ``[3, side, side]``."""
    image = image.convert('RGB')
    if side >= WHOLE:
        image = image.resize((side, side), Image.Resampling.BICUBIC)
    else:
        width, height = image.size
        short, least = int(MARGIN * side), min(image.size)
        width, height = int(short * width / least), int(short * height / least)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        left, top = round((width - side) / 2), round((height - side) / 2)
        image = image.crop((left, top, left + side, top + side))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def images_in(path: Path) -> list[Path]:
    """Return the image files in a folder, sorted by name, or the file ``path`` itself.

    Raises:
        InputError: if there is no such file or folder, or it contains no images.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f'there is no image or folder {path}: check the path.')
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in ENDINGS)
    if not files:
        raise InputError(f'{path} contains no images: expected files that end in {", ".join(sorted(ENDINGS))}.')
    return files


def class_folders(folder: Path) -> list[Path]:
    """Return the subfolders of a folder, one per class; none if it contains only images, or is a file."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith('.'))


def labelled_images(folder: Path, classes: int) -> list[Item]:
    """Return the images of a validation set with one folder per class, and their class indices.

    Folder names such as ImageNet's WordNet ids are sorted as text and numbered. If all names are numbers, as in
    ImageNet-V2, they are the class indices.

    Args:
        folder: folder with one subfolder per class.
        classes: number of classes of the classifier.

    Raises:
        InputError: if the folders do not match the number of classes, or one is empty.
    """
    folders = class_folders(folder)
    names = [path.name for path in folders]
    if all(name.isdecimal() for name in names):
        labels = [int(name) for name in names]
        if max(labels) >= classes or len(set(labels)) < len(labels):
            raise InputError(
                f'{folder} has folders {names[0]} to {names[-1]}, which are read as class indices, but the checkpoint '
                f'has the classes 0 to {classes - 1}: give one folder per class.'
            )
    elif len(names) != classes:
        raise InputError(
            f'{folder} has {len(names)} class folders ({names[0]} to {names[-1]}), but the checkpoint has {classes} '
            'classes: give its validation set, with one folder per class, or a single folder of images.'
        )
    else:
        labels = list(range(classes))
    return [(file, label) for path, label in zip(folders, labels, strict=True) for file in images_in(path)]


class ImageFiles(Dataset[tuple[Tensor | str, int]]):
    """Preprocessed images and their classes; an error message instead of an image that cannot be read.

    Args:
        items: files and their class indices.
        side: side of the preprocessed images in pixels.
        upright: whether to rotate images by their EXIF orientation, which the original code does not do.
    """

    def __init__(self, items: Sequence[Item], side: int, upright: bool) -> None:
        self.items = items
        self.side = side
        self.upright = upright

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> tuple[Tensor | str, int]:
        path, label = self.items[number]
        try:
            with Image.open(path) as image:
                return prepare(ImageOps.exif_transpose(image) if self.upright else image, self.side), label
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            return f'{path} cannot be read as an image ({str(error).splitlines()[0]}): replace or remove it.', label


def collate(samples: Sequence[tuple[Tensor | str, int]]) -> tuple[Tensor | str, Tensor]:
    """Collate images ``[B, 3, side, side]``, or the first error message, and labels ``[B]``.

    Workers return messages, because an exception in a worker would be reported with its traceback.
    """
    errors = [image for image, _ in samples if isinstance(image, str)]
    labels = torch.tensor([label for _, label in samples])
    return errors[0] if errors else torch.stack([image for image, _ in samples if isinstance(image, Tensor)]), labels
