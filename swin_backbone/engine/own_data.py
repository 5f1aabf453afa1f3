"""Custom data: use the images and annotations of a ``dataset.toml`` or of command-line options with any config."""

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from swin_backbone.datasets.image_check import ENDINGS
from swin_backbone.datasets.label_maps import BACKGROUND, write_label_maps
from swin_backbone.engine.class_check import find_data_sets, read_categories
from swin_backbone.engine.class_names import fit_to_data, read_classes, set_classes
from swin_backbone.engine.config import EVALUATORS, dicts_in, move_data_root
from swin_backbone.engine.panoptic_classes import panoptic_sets
from swin_backbone.errors import InputError

LOGGER = logging.getLogger('swin_backbone')
KEYS = {'root', 'classes', 'train', 'val', 'ignore_label_0'}
SPLIT_KEYS = {'images', 'annotations'}
SPLIT_OF = {'train_dataloader': 'train', 'val_dataloader': 'val', 'test_dataloader': 'val'}


@dataclass(frozen=True)
class Split:
    """Images and their annotations.

    Attributes:
        annotations: a file in COCO format or, for segmenters, a folder of label maps.
        images: the folder of the images; None to search for it.
    """

    annotations: Path
    images: Path | None = None


@dataclass(frozen=True)
class OwnData:
    """Data for training and evaluation.

    Attributes:
        splits: the splits ``train`` and ``val``.
        root: the folder in which images are searched.
        classes: classes in the order of their labels; None for those of the annotation file.
        ignore_label_0: whether label 0 of label maps is ignored.
    """

    splits: dict[str, Split]
    root: Path
    classes: tuple[str, ...] | None = None
    ignore_label_0: bool = False


def read_dataset_file(path: str) -> OwnData:
    """Read a ``dataset.toml``; its paths are relative to ``root``, which is relative to the file.

    Raises:
        InputError: if the file does not exist, is not valid TOML, or has unknown keys.
    """
    try:
        import tomllib
    except ImportError:  # Python 3.10
        import tomli as tomllib  # type: ignore[import-not-found,no-redef]

    file = Path(path)
    if not file.is_file():
        raise InputError(f'--dataset {path} does not exist: give a dataset.toml, see docs/own_data.md.')
    try:
        content = tomllib.loads(file.read_text(encoding='utf-8'))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f'{path} is not valid TOML ({error}): correct it.') from error
    unknown = [*(set(content) - KEYS)]
    root = file.parent / content.get('root', '.')
    splits = {}
    for name in ('train', 'val'):
        split = content.get(name)
        if split is None:
            continue
        if not isinstance(split, dict) or 'annotations' not in split:
            raise InputError(f'{path}: [{name}] has no annotations: set it to a COCO file or a folder of label maps.')
        unknown += [f'{name}.{key}' for key in set(split) - SPLIT_KEYS]
        images = root / split['images'] if 'images' in split else None
        splits[name] = Split(root / split['annotations'], images)
    if unknown:
        raise InputError(
            f'{path} has the unknown key {sorted(unknown)[0]}: use {", ".join(sorted(KEYS))}, and in [train] and [val] '
            f'{" and ".join(sorted(SPLIT_KEYS))}.'
        )
    classes = content.get('classes')
    if classes is not None and (not isinstance(classes, list) or not all(isinstance(name, str) for name in classes)):
        raise InputError(f'{path}: classes must be a list of names, as in classes = ["bolt", "nut"].')
    return OwnData(splits, root, tuple(classes) if classes else None, bool(content.get('ignore_label_0', False)))


def own_data(dataset: str | None, train_ann: str | None, val_ann: str | None, root: str | None) -> OwnData | None:
    """Return the custom data that the options describe; None without --dataset, --train-ann and --val-ann.

    Raises:
        InputError: if ``--dataset`` cannot be read or is combined with the others.
    """
    named = {'train': train_ann, 'val': val_ann}
    splits = {name: Split(Path(path)) for name, path in named.items() if path is not None}
    if dataset is None:
        return OwnData(splits, Path(root or '.')) if splits else None
    if splits or root:
        raise InputError('--dataset defines all files: leave out --train-ann, --val-ann and --data-root.')
    return read_dataset_file(dataset)


def choose_data(
    config: Config,
    own: OwnData | None,
    splits: Sequence[str],
    data_root: str | None = None,
    classes: str | None = None,
    no_masks: bool = False,
) -> None:
    """Apply the data options: custom data or another data root, ``--classes`` and ``--no-masks``.

    Raises:
        InputError: if an option does not fit the config or the data.
    """
    if own is not None:
        use_own_data(config, own, None if classes is None else read_classes(classes), splits)
        classes = None
    elif data_root:
        move_data_root(config, data_root)
    fit_to_data(config, classes, no_masks)


def use_own_data(config: Config, data: OwnData, classes: Sequence[str] | None, splits: Sequence[str]) -> None:
    """Make a config use custom data, with their classes in every head, data set and evaluator.

    For a segmenter, a COCO file is converted to label maps in ``label_maps`` in the work dir.

    Args:
        config: changed in place; its work dir is set.
        data: the custom data.
        classes: classes to use instead of those of the data.
        splits: which of ``train`` and ``val`` are needed.

    Raises:
        InputError: if a split or its files are missing, or the config's model needs other annotations.
    """
    for name in splits:
        if name not in data.splits:
            raise InputError(f'the data have no {name} split: add --{name}-ann, or [{name}] in dataset.toml.')
        if not data.splits[name].annotations.exists():
            raise InputError(f'the {name} annotations {data.splits[name].annotations} do not exist: check the path.')
    # A split that is not needed is not read, but it must not refer to a different data set.
    first = data.splits[splits[0]]
    all_splits = {name: data.splits.get(name, first) for name in ('train', 'val')}
    semantic = 'decode_head' in config.model
    names = list(classes or data.classes or ())
    if semantic:
        if first.annotations.is_file():
            names = names or read_categories(str(first.annotations))
            names = names if names[0] == BACKGROUND else [BACKGROUND, *names]
        if not names:
            raise InputError('label maps do not contain class names: add --classes, or classes in dataset.toml.')
        use_maps(config, data, all_splits, names)
    else:
        names = names or read_categories(str(first.annotations))
        use_coco(config, data, all_splits)
    set_classes(config, names)


def use_coco(config: Config, data: OwnData, splits: dict[str, Split]) -> None:
    """Make a detector config read COCO files."""
    if panoptic_sets(config) or any(step.get('with_seg') for step in dicts_in(config.train_dataloader)):
        raise InputError(
            f'{config.filename} also trains on stuff or panoptic maps, which --train-ann does not provide: choose a '
            'config without them, such as htc_plain_swin_b_6x instead of htc_swin_b_6x.'
        )
    for loader, name in SPLIT_OF.items():
        path = splits[name].annotations
        if path.suffix != '.json':
            raise InputError(f'{path} is not a .json file: detectors need annotations in COCO format.')
        folder = os.path.abspath(splits[name].images or find_images(path, data.root))
        for data_set in find_data_sets(config, (loader,)):
            data_set.update(
                type='CocoDataset',
                data_root=folder,
                ann_file=os.path.abspath(path),
                data_prefix=dict(img=f'{folder}/'),
                indices=None,
            )
    for key in EVALUATORS:
        for evaluator in dicts_in(config.get(key) or {}):
            if 'ann_file' in evaluator:
                evaluator['ann_file'] = os.path.abspath(splits['val'].annotations)


def use_maps(config: Config, data: OwnData, splits: dict[str, Split], names: Sequence[str]) -> None:
    """Make a segmenter config read label maps, which are generated for COCO files."""
    used = {}
    for name in ('train', 'val'):
        split, listing = splits[name], ''
        folder = split.images or find_images(split.annotations, data.root)
        if split.annotations.is_file():
            maps = Path(config.work_dir) / 'label_maps' / name
            stems = write_label_maps(split.annotations, maps, names)
            listing = os.path.abspath(maps / 'images.txt')
        else:
            maps = split.annotations
            stems = [str(path.relative_to(maps).with_suffix('')) for path in maps.rglob('*.png')]
        used[name] = dict(
            type='BaseSegDataset',
            data_root=os.path.abspath(folder),
            ann_file=listing,
            data_prefix=dict(img_path=os.path.abspath(folder), seg_map_path=os.path.abspath(maps)),
            img_suffix=common_suffix(folder, stems),
            seg_map_suffix='.png',
            reduce_zero_label=data.ignore_label_0 and not split.annotations.is_file(),
        )
    for loader, name in SPLIT_OF.items():
        for data_set in find_data_sets(config, (loader,)):
            data_set.update(used[name])
            for step in dicts_in(data_set['pipeline']):
                if step.get('type') == 'LoadAnnotations':
                    step.pop('reduce_zero_label', None)


def find_images(annotations: Path, root: Path) -> Path:
    """Find the image folder of an annotation file or of a folder of label maps.

    For the data root, the folder of the annotations and its two parent folders, these folders are tried: the folder
    itself, ``images``, ``SPLIT`` and ``images/SPLIT``.

    Raises:
        InputError: if the images are in none of them.
    """
    if annotations.is_file():
        try:
            images = json.loads(annotations.read_text(encoding='utf-8'))['images']
            example = str(images[0]['file_name'])
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise InputError(f'{annotations} is not an annotation file in COCO format with images.') from error
        wanted = {example}
    else:
        first = min(annotations.rglob('*.png'), default=None)
        if first is None:
            raise InputError(f'{annotations} contains no label maps: give a folder of PNG files, or a COCO file.')
        stem = str(first.relative_to(annotations).with_suffix(''))
        wanted = {f'{stem}{ending}' for ending in (*ENDINGS, *map(str.upper, ENDINGS))}
    split = annotations.stem.removeprefix('instances_')
    tried = []
    for base in dict.fromkeys((root, annotations.parent, annotations.parent.parent, annotations.parent.parent.parent)):
        for folder in (base, base / 'images', base / split, base / 'images' / split):
            tried.append(folder)
            if folder != annotations and any((folder / name).is_file() for name in wanted):
                return folder
    raise InputError(
        f'the images of {annotations}, such as {min(wanted)}, are not in {tried[0]} or {tried[1]}: set the folder of '
        'the data with --data-root, or images in dataset.toml.'
    )


def common_suffix(folder: Path, stems: Sequence[str]) -> str:
    """Return the suffix of all images; MMSegmentation supports only one.

    Raises:
        InputError: if there are several, or an image is missing.
    """
    endings: dict[str, str] = {}
    for name in (os.path.relpath(path, folder) for path in folder.rglob('*') if path.suffix.lower() in ENDINGS):
        endings[os.path.splitext(name)[0]] = os.path.splitext(name)[1]
    found = {endings.get(stem, '') for stem in stems}
    if len(found) == 1 and '' not in found:
        return found.pop()
    if '' in found:
        absent = next(stem for stem in stems if stem not in endings)
        raise InputError(f'{folder} contains no image {absent}: every label map needs an image with the same name.')
    raise InputError(
        f'the images in {folder} have the suffixes {" and ".join(sorted(found))}: convert them to one format.'
    )
