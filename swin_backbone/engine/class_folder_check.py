"""Checks of a classifier's data: a folder of images for each class, or a list of images with labels."""

import inspect
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from swin_backbone.datasets.image_check import check_images, sampled
from swin_backbone.datasets.problems import Findings
from swin_backbone.engine.class_check import SHOWN, find_data_sets, shortened
from swin_backbone.errors import InputError

ENDINGS = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')
"""File suffixes that MMPretrain reads as images."""

SAMPLED_IMAGES = 200


def reads_class_folders(kind: Any) -> bool:
    """Return whether a data set class reads folders or lists of images like MMPretrain's CustomDataset."""
    # Importing the module takes seconds; if `kind` is such a class, the module was imported already.
    module = sys.modules.get('mmpretrain.datasets.custom')
    if module is None or not inspect.isclass(kind):
        return False
    return getattr(kind, 'load_data_list', None) is module.CustomDataset.load_data_list


def check_class_folders(
    config: Config, loader: str, data_set: dict[str, Any], kind: Any, full: bool
) -> tuple[list[Findings], list[str]]:
    """Check the class folders and a sample of the images of an MMPretrain data set.

    Returns:
        The problems found, and lines to log.

    Raises:
        InputError: if the folders do not match the classes.
    """
    folder, listing = image_folder_and_list(data_set)
    if not os.path.isdir(folder) or data_set.get('with_label') is False:
        return [], []
    count = (config.model.get('head') or {}).get('num_classes')
    findings = Findings(listing or folder)
    if listing:
        images = listed_images(findings, listing, count)
    else:
        names = class_folders(folder)
        check_names(names, folder, (data_set.get('metainfo') or {}).get('classes'), count)
        if loader != 'train_dataloader':
            compare_folders(config, names, folder)
        images = images_in(findings, folder, names)
    files = [(os.path.join(folder, name), None) for name in (images if full else sampled(images, SAMPLED_IMAGES))]
    check_images(findings, files, full)
    return [findings], findings.notes


def image_folder_and_list(data_set: dict[str, Any]) -> tuple[str, str]:
    """Return the image folder of a data set and its list of images and labels, which is empty if it has none."""
    root, split = data_set.get('data_root') or '', data_set.get('split')
    listing = os.path.join(root, data_set.get('ann_file') or (f'meta/{split}.txt' if split else ''))
    folder = os.path.join(root, (data_set.get('data_prefix') or {}).get('img_path') or '')
    return folder, listing if os.path.isfile(listing) else ''


def class_folders(folder: str) -> list[str]:
    """Return the class folders in the order of their labels."""
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())


def check_names(names: Sequence[str], folder: str, stated: Sequence[str] | None, count: int | None) -> None:
    """Compare the class folders with the classes of a config.

    Args:
        names: the class folders.
        folder: their parent folder.
        stated: the classes in the metainfo of the data set, if any.
        count: the number of classes of the head, if it is set.

    Raises:
        InputError: if there are no folders, or their number or order differs from the classes of the config.
    """
    if not names:
        raise InputError(f'{folder} has no subfolders: sort the images into one subfolder per class.')
    wanted = len(stated) if stated else count
    if wanted is not None and len(names) != wanted:
        listed = ','.join(names) if len(names) <= SHOWN else 'FILE with a folder per line'
        raise InputError(
            f'{folder} has {len(names)} class folders ({shortened(names)}), but the config has {wanted} classes: set '
            f'the folder of its data set with --data-root, or the classes with --classes {listed}.'
        )
    if stated and set(stated) == set(names) and list(stated) != list(names):
        raise InputError(
            f'{folder}: labels follow the sorted folder names, {shortened(names)}, but the config lists the classes as '
            f'{shortened(stated)}: list the classes in the order of the folders.'
        )


def compare_folders(config: Config, names: Sequence[str], folder: str) -> None:
    """Check that evaluation data have the same class folders as the training data, whose order gives the labels.

    Raises:
        InputError: if they differ.
    """
    for data_set in find_data_sets(config, ('train_dataloader',)):
        trained, listing = image_folder_and_list(data_set)
        if not listing and os.path.isdir(trained) and class_folders(trained) != list(names):
            other = sorted(set(class_folders(trained)) ^ set(names))
            raise InputError(
                f'{trained} and {folder} have different class folders ({shortened(other)} in only one of them): labels '
                'follow the sorted folder names, so both need the same folders.'
            )


def images_in(findings: Findings, folder: str, names: Sequence[str]) -> list[str]:
    """Return the images in the class folders, relative to ``folder``, and record classes without images."""
    images: list[str] = []
    empty = []
    for name in names:
        found = [
            os.path.relpath(os.path.join(place, file), folder)
            for place, _, files in os.walk(os.path.join(folder, name), followlinks=True)
            for file in files
            if file.lower().endswith(ENDINGS)
        ]
        images += sorted(found)
        if not found:
            empty.append(name)
    findings.add('class', 'without an image', 'the class is neither learned nor evaluated', empty, fatal=False)
    if not images:
        raise InputError(
            f'the class folders in {folder} contain no images: add images with one of the suffixes '
            f'{", ".join(ENDINGS)}.'
        )
    return images


def listed_images(findings: Findings, listing: str, count: int | None) -> list[str]:
    """Return the images of a list with a path and a label per line, and record malformed lines and invalid labels."""
    images, wrong, beyond = [], [], []
    for line in Path(listing).read_text(encoding='utf-8').splitlines():
        name, _, label = line.strip().rpartition(' ')
        if not name or not label.isdigit():
            wrong.append(line)
        elif count is not None and int(label) >= count:
            beyond.append(line)
        else:
            images.append(name)
    findings.add('line', 'without a path and a label', 'write PATH LABEL, labels from 0', wrong)
    findings.add('label', f'beyond the {count} classes of the head', 'set model.head.num_classes', beyond)
    return images
