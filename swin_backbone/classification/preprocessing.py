"""Image files and class folders, prepared as the original classification code does for its tests."""

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
"""Of ImageNet's pixels between 0 and 1: red, green, blue."""

MARGIN = 256 / 224
"""Short side of the resized image over the side of the crop."""

WHOLE = 384
"""Images of this side and larger are resized to a square without a crop."""

Item = tuple[Path, int]


def describe_preparation(side: int) -> str:
    """How :func:`prepare` makes images of ``side`` pixels, in words."""
    if side >= WHOLE:
        return f'resized to {side}x{side}'
    return f'short side resized to {int(MARGIN * side)}, centre of {side}x{side}'


def prepare(image: Image.Image, side: int) -> Tensor:
    """An image as a classifier reads it, ``[3, side, side]``: resized, cropped and normalised."""
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
    """The image files in a folder, by name, or the one file that ``path`` is.

    Raises:
        InputError: there is no such file or folder, or there are no images in it.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f'there is no image or folder {path}: check the path.')
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in ENDINGS)
    if not files:
        raise InputError(f'{path} holds no images: expected files that end in {", ".join(sorted(ENDINGS))}.')
    return files


def class_folders(folder: Path) -> list[Path]:
    """The folders of classes in a folder; none where it holds images alone, or is a file."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith('.'))


def labelled_images(folder: Path, classes: int) -> list[Item]:
    """The images of a validation set in one folder per class, with the numbers of their classes.

    Names such as the WordNet ids of ImageNet are numbered in their order as text. Where all names are numbers, as in
    ImageNet-V2, they are the numbers of the classes.

    Args:
        folder: with one folder per class.
        classes: of the classifier.

    Raises:
        InputError: the folders are not those of ``classes`` classes, or one is empty.
    """
    folders = class_folders(folder)
    names = [path.name for path in folders]
    if all(name.isdecimal() for name in names):
        labels = [int(name) for name in names]
        if max(labels) >= classes or len(set(labels)) < len(labels):
            raise InputError(
                f'{folder} has folders {names[0]} to {names[-1]}, which are read as numbers of classes: the checkpoint '
                f'has the classes 0 to {classes - 1}, one folder each.'
            )
    elif len(names) != classes:
        raise InputError(
            f'{folder} has {len(names)} class folders ({names[0]} to {names[-1]}), the checkpoint {classes} classes: '
            "give the checkpoint's own validation set, with one folder per class, or a single folder of images."
        )
    else:
        labels = list(range(classes))
    return [(file, label) for path, label in zip(folders, labels, strict=True) for file in images_in(path)]


class ImageFiles(Dataset[tuple[Tensor | str, int]]):
    """Prepared images and their classes; an error in words in the place of an image that cannot be read.

    Args:
        items: files and the numbers of their classes.
        side: of the prepared images in pixels.
        upright: whether to rotate images by their EXIF orientation, which the original does not.
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
    """Images ``[B, 3, side, side]``, or the first error, and labels ``[B]``: a worker cannot raise one sentence."""
    errors = [image for image, _ in samples if isinstance(image, str)]
    labels = torch.tensor([label for _, label in samples])
    return errors[0] if errors else torch.stack([image for image, _ in samples if isinstance(image, Tensor)]), labels
