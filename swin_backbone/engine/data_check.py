"""Checks of the annotation files, label maps and images of a run's data sets before it starts."""

import inspect
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from swin_backbone.datasets.coco_files import check_coco_files
from swin_backbone.datasets.image_check import check_images, sampled
from swin_backbone.datasets.label_map_check import check_maps
from swin_backbone.datasets.panoptic_check import check_panoptic_files
from swin_backbone.datasets.problems import Findings, counted
from swin_backbone.engine.class_check import (
    PAIRS,
    annotation_file,
    as_list,
    classes_of,
    data_set_type,
    find_data_sets,
    is_semantic,
    reads_boxes,
    shortened,
)
from swin_backbone.engine.class_folder_check import check_class_folders, reads_class_folders
from swin_backbone.engine.config import dicts_in
from swin_backbone.engine.panoptic_classes import is_panoptic
from swin_backbone.errors import InputError

LOGGER = logging.getLogger('swin_backbone')
EXTENTS = ('sample', 'full', 'none')
"""Values of ``--data-check``: how many images and label maps are read; annotation files are read except for 'none'."""

SAMPLED_MAPS = 100
SKIP = '--data-check none skips the check'
RANKS = ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')


def check_files(config: Config, loaders: Sequence[str], extent: str = 'sample') -> None:
    """Check the files of the data sets of ``loaders``, in the first process of a run only.

    Args:
        config: config of the run, with its classes set.
        loaders: loaders whose data sets are checked.
        extent: one of :data:`EXTENTS`.

    Raises:
        InputError: if files are damaged or inconsistent.
    """
    if extent == 'none' or any(os.environ.get(name, '0') != '0' for name in RANKS):
        return
    problems: dict[str, Findings] = {}
    notes: dict[str, None] = {}
    for loader in loaders:
        for data_set in find_data_sets(config, (loader,)):
            kind = data_set_type(config, data_set)
            check = next((function for reads, function in CHECKS.items() if reads(kind)), None)
            if check is not None:
                found, lines = check(config, loader, data_set, kind, extent == 'full')
                problems |= {one.where: one for one in found if one.sentence}
                notes |= dict.fromkeys(lines)
    for note in notes:
        LOGGER.warning('%s', note)
    if problems:
        first, *others = problems.values()
        also = ''.join(f' {one.where} has {one.kinds}.' for one in others)
        raise InputError(f'{first.sentence}{also} ({SKIP}.)')


def check_detection(
    config: Config, loader: str, data_set: dict[str, Any], kind: Any, full: bool
) -> tuple[list[Findings], list[str]]:
    """Check the annotation file and the images of an MMDetection data set.

    Returns:
        The problems found, and lines to log.
    """
    path = annotation_file(data_set)
    if not path:
        return [], []
    prefix = data_set.get('data_prefix') or {}
    root = data_set.get('data_root') or ''
    folder = os.path.join(root, prefix.get('img', prefix.get('img_path', '')))
    training = loader == 'train_dataloader'
    evaluators = as_list(config.get(PAIRS[loader])) if not training else []
    labelled = training or not all(one.get('format_only') for one in evaluators)
    findings, report = check_coco_files(
        Path(path), folder, root, reads_masks(data_set, evaluators), labelled, applies_exif_orientation(data_set), full
    )
    if training and not findings.sentence:
        classes = classes_of(data_set, kind, loader)
        check_filter(data_set, path, classes, report.objects, report.height)
        unseen = [name for name in classes if report.objects.get(name) == 0]
        if unseen:
            report.notes.append(f'{path} has no objects of {shortened(unseen)}, which cannot be learned.')
    return [findings], report.notes


def check_panoptic(
    config: Config, loader: str, data_set: dict[str, Any], kind: Any, full: bool
) -> tuple[list[Findings], list[str]]:
    """Check the annotation file, the images and the maps of a panoptic MMDetection data set.

    Returns:
        The problems found, and lines to log.
    """
    path, prefix = annotation_file(data_set), data_set.get('data_prefix') or {}
    if not path or not prefix.get('seg'):
        return [], []
    root = data_set.get('data_root') or ''
    images, maps = (os.path.join(root, prefix.get(key) or '') for key in ('img', 'seg'))
    found = check_panoptic_files(Path(path), images, maps, root, applies_exif_orientation(data_set), full)
    return found, [note for one in found for note in one.notes]


def reads_masks(data_set: dict[str, Any], evaluators: Any) -> bool:
    """Return whether a pipeline or a metric reads the masks of annotations."""
    steps = list(dicts_in(data_set.get('pipeline')))
    scored = any('segm' in (one.get('metric') or ()) and not one.get('format_only') for one in evaluators)
    return scored or any(step.get('with_mask') or 'InstaBoost' in str(step.get('type')) for step in steps)


def applies_exif_orientation(data_set: dict[str, Any]) -> bool:
    """Return whether a pipeline rotates images by their EXIF orientation (the default)."""
    steps = [step for step in dicts_in(data_set.get('pipeline')) if 'LoadImage' in str(step.get('type'))]
    colours = {str(step.get('color_type', 'color')) for step in steps}
    return not any('ignore_orientation' in colour or colour == 'unchanged' for colour in colours)


def check_filter(
    data_set: dict[str, Any], path: str, classes: Sequence[str], objects: dict[str, int], side: int
) -> None:
    """Check that ``filter_cfg`` does not remove all images of a data set.

    Raises:
        InputError: if all images are too small or have no objects.
    """
    rules = data_set.get('filter_cfg') or {}
    least = rules.get('min_size', 0)
    if side < least:
        raise InputError(
            f'{path}: filter_cfg removes all images, because none has a short side of at least {least} pixels (the '
            f'longest is {side}): set train_dataloader.dataset.filter_cfg.min_size={side}.'
        )
    if rules.get('filter_empty_gt') and classes and not sum(objects.get(name, 0) for name in classes):
        raise InputError(
            f'{path} has no objects of {shortened(classes)}, and images without objects are removed '
            '(filter_cfg.filter_empty_gt): check its annotations and categories.'
        )


def check_segmentation(
    config: Config, loader: str, data_set: dict[str, Any], kind: Any, full: bool
) -> tuple[list[Findings], list[str]]:
    """Check the images and label maps of an MMSegmentation data set.

    Returns:
        The problems found, and lines to log.
    """
    options = inspect.signature(kind.__init__).parameters
    stated = {
        key: data_set.get(key, options[key].default if key in options else None)
        for key in ('img_suffix', 'seg_map_suffix', 'reduce_zero_label')
    }
    root, prefix = data_set.get('data_root') or '', data_set.get('data_prefix') or {}
    folder = os.path.join(root, prefix.get('img_path') or '')
    if not os.path.isdir(folder) or not stated['img_suffix']:
        return [], []
    findings = Findings(folder)
    images = list_images(findings, folder, stated['img_suffix'], os.path.join(root, data_set.get('ann_file') or ''))
    chosen = images if full else sampled(images, SAMPLED_MAPS)
    check_images(
        findings,
        [(os.path.join(folder, name), None) for name in chosen],
        full,
        turned=applies_exif_orientation(data_set),
    )
    if prefix.get('seg_map_path') and any('Annotations' in str(s.get('type')) for s in dicts_in(data_set['pipeline'])):
        maps = os.path.join(root, prefix['seg_map_path'])
        labels = Findings(maps)
        endings = len(stated['img_suffix']), str(stated['seg_map_suffix'])
        pairs = pair_maps(labels, folder, maps, images, endings)
        some = pairs if full else sampled(pairs, SAMPLED_MAPS)
        highest, meaning = label_range(config, kind, classes_of(data_set, kind, loader), stated['reduce_zero_label'])
        check_maps(labels, some, highest, meaning, ignored_label(config))
        if len(some) < len(pairs):
            print_log(
                f'{maps}: checked {len(some)} of {counted(len(pairs), "label map")}; --data-check full checks all.',
                'current',
                logging.INFO,
            )
        return [labels, findings], labels.notes + findings.notes
    return [findings], findings.notes


def list_images(findings: Findings, folder: str, ending: str, listing: str) -> list[str]:
    """Return the images of an MMSegmentation data set, relative to their folder, and record missing listed images."""
    found = names_under(folder, ending)
    if not os.path.isfile(listing):
        return sorted(found)
    names = [
        f'{line.strip()}{ending}' for line in Path(listing).read_text(encoding='utf-8').splitlines() if line.strip()
    ]
    absent = [name for name in names if name not in found]
    remedy = f'{listing} lists them (one name without {ending} per line): correct the list'
    findings.add('image', 'that does not exist', remedy, absent)
    return [name for name in names if name in found]


def names_under(folder: str, ending: str) -> set[str]:
    """Return the files with a suffix below a folder, following links, as MMSegmentation finds them."""
    return {
        os.path.relpath(os.path.join(place, name), folder)
        for place, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.endswith(ending)
    }


def pair_maps(
    findings: Findings, folder: str, maps: str, images: Sequence[str], endings: tuple[int, str]
) -> list[tuple[str, str]]:
    """Return the paths of images and their label maps, and record missing maps and maps without an image."""
    cut, ending = endings
    there = names_under(maps, ending)
    named = {name: f'{name[:-cut]}{ending}' for name in images}
    absent = [label_map for label_map in named.values() if label_map not in there]
    findings.add('label map', 'missing', f'every image in {folder} needs one of its name that ends in {ending}', absent)
    spare = sorted(there - set(named.values()))
    findings.add('label map', 'without an image', 'they are not read', spare, fatal=False)
    return [
        (os.path.join(folder, name), os.path.join(maps, label_map))
        for name, label_map in named.items()
        if label_map in there
    ]


def label_range(config: Config, kind: Any, classes: Sequence[str], reduced: Any) -> tuple[int | None, str]:
    """Return the highest class label (None if the classes are unknown) and a sentence with the range of labels."""
    known = getattr(kind, 'METAINFO', {}).get('classes') or ()
    count = len(known) if known and set(classes) <= set(known) else len(classes)
    first = 1 if reduced else 0
    return (
        first + count - 1 if count else None
    ), f'{counted(count, "class")} have the labels {first} to {first + count - 1}'


def ignored_label(config: Config) -> int:
    """Return the label that the loss of a segmenter ignores."""
    heads = config.model.get('decode_head') or {}
    head = heads[-1] if isinstance(heads, (list, tuple)) else heads
    return int(head.get('ignore_index', 255))


CHECKS = {
    reads_boxes: check_detection,
    is_panoptic: check_panoptic,
    is_semantic: check_segmentation,
    reads_class_folders: check_class_folders,
}
"""Predicate on the class of a data set -> check of its files."""
