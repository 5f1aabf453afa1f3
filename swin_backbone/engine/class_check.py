"""Comparison of a config's classes with its annotation files and label maps, before the model is built."""

import difflib
import inspect
import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from swin_backbone.datasets.label_map_check import CHANNELS, read_map
from swin_backbone.engine.config import EVALUATORS, LOADERS, dicts_in
from swin_backbone.errors import InputError

PAIRS = dict(zip(LOADERS[1:], EVALUATORS, strict=True))
"""Evaluator of each loader."""

LOGGER = logging.getLogger('swin_backbone')
SAMPLED_MAPS = 20
"""Number of label maps that are read to find the highest label."""

SEARCHED_MAPS = 1000
"""Number of label maps that are read to find classes that do not occur."""

SHOWN = 10


def find_data_sets(config: Config, loaders: Sequence[str] = LOADERS) -> Iterator[dict[str, Any]]:
    """Yield the innermost data sets of loaders, without their wrappers."""
    waiting = [(config.get(loader) or {}).get('dataset') for loader in reversed(loaders)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (list, tuple)):
            waiting += reversed(node)
        elif isinstance(node, dict):
            inner = node.get('dataset', node.get('datasets'))
            if inner is None:
                yield node
            waiting.append(inner)


def annotation_file(data_set: dict[str, Any]) -> str:
    """Return the COCO file of a data set; empty if it has none or the file is missing (reported elsewhere)."""
    name = data_set.get('ann_file') or ''
    path = os.path.join(data_set.get('data_root') or '', name) if isinstance(name, str) else ''
    return path if path.endswith('.json') and os.path.isfile(path) else ''


def read_categories(path: str) -> list[str]:
    """Return the category names of a COCO file, in the order of the file."""
    try:
        return [category['name'] for category in load_categories(path)]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f'{path} is not an annotation file in COCO format ({error}): convert it first.') from error


def load_categories(path: str) -> list[dict[str, Any]]:
    """Load only the categories of a COCO file, because its annotations may be hundreds of megabytes."""
    text = Path(path).read_text(encoding='utf-8')
    for position in (text.rfind('"categories"'), text.find('"categories"')):
        start = text.find('[', position)
        if min(position, start) < 0 or text[position + len('"categories"') : start].strip() != ':':
            continue
        found, _ = json.JSONDecoder().raw_decode(text, start)
        if found and all(isinstance(one, dict) and {'id', 'name'} <= one.keys() for one in found):
            return list(found)
    return list(json.loads(text)['categories'])


def missing_class(name: str, path: str) -> str:
    """Return the error message for a class that an annotation file does not have."""
    there = read_categories(path)
    close = difflib.get_close_matches(name, there, n=1)
    hint = f'did you mean {close[0]!r}?' if close else 'use names from the file.'
    some = ', '.join(there[:10]) + (f' and {len(there) - 10} more' if len(there) > 10 else '')
    return f'class {name!r} is not in {path}, which has {some}: {hint}'


def shortened(names: Sequence[str]) -> str:
    """Join the first :data:`SHOWN` names and the count of the others."""
    return ', '.join(map(str, names[:SHOWN])) + (f' and {len(names) - SHOWN} more' if len(names) > SHOWN else '')


def label_maps_of(data_set: dict[str, Any]) -> list[Path]:
    """Return the label maps of an MMSegmentation data set."""
    folder = Path(data_set.get('data_root') or '', (data_set.get('data_prefix') or {}).get('seg_map_path', ''))
    return sorted(folder.rglob(f'*{data_set.get("seg_map_suffix", ".png")}'))


def labels_in(path: Path) -> set[int]:
    """Return the labels that occur in a label map, without 255.

    Raises:
        InputError: if the file cannot be read or is not a label map.
    """
    label_map = read_map(str(path))
    if label_map.problem:
        raise InputError(f'label map {path} cannot be read ({label_map.problem}): save it again as PNG.')
    if label_map.mode in CHANNELS:
        raise InputError(
            f'{path} is a colour image with {CHANNELS[label_map.mode]} channels, but label maps have one: convert the '
            'colours to class labels.'
        )
    return set(label_map.labels)


def check_labels(data_set: dict[str, Any], maps: Sequence[Path], names: Sequence[str]) -> set[int]:
    """Check in a sample of label maps that every label belongs to a class.

    Args:
        data_set: the MMSegmentation data set.
        maps: its label maps.
        names: all classes in the order of their labels.

    Returns:
        The labels that occur in the sample.

    Raises:
        InputError: if a map has a label beyond the last class.
    """
    first = 1 if data_set.get('reduce_zero_label') else 0
    seen: set[int] = set()
    for path in maps[:: max(1, len(maps) // SAMPLED_MAPS)]:
        labels = labels_in(path)
        highest = max(labels, default=0)
        if highest >= first + len(names):
            raise InputError(
                f'{path} contains label {highest}, but the {len(names)} classes have the labels {first} to '
                f'{first + len(names) - 1}: list all classes in the order of their labels.'
            )
        seen |= labels
    return seen


def check_occurrence(maps: Sequence[Path], seen: set[int], names: Sequence[str], first: int) -> None:
    """Check that every class occurs in the label maps, and warn about those that do not.

    Raises:
        InputError: if label 0 is ignored and only the highest label never occurs, so labels seem to start at 0.
    """
    wanted = set(range(first, first + len(names)))
    for path in maps[:: max(1, len(maps) // SEARCHED_MAPS)]:
        if wanted <= seen:
            return
        seen |= labels_in(path)
    if first == 1 and len(names) not in seen and set(range(len(names))) <= seen:
        options = ' '.join(
            f'{loader}.dataset.{key}=False'
            for loader in LOADERS
            for key in ('reduce_zero_label', 'pipeline.1.reduce_zero_label')
        )
        raise InputError(
            f'the label maps in {maps[0].parent} have label 0 but never label {len(names)} ({names[-1]}), and '
            f'reduce_zero_label ignores label 0 and numbers the classes from 1: if label 0 is {names[0]}, add '
            f'--cfg-options {options}; if it means unlabelled, remove the classes that never occur.'
        )
    absent = [names[label - first] for label in sorted(wanted - seen)]
    if absent:
        ignored = ' (label 0 occurs, and reduce_zero_label ignores it)' if first == 1 and 0 in seen else ''
        LOGGER.warning('no label map in %s contains the classes %s%s', maps[0].parent, shortened(absent), ignored)


def check_classes(config: Config, loaders: Sequence[str]) -> None:
    """Compare the classes of the data sets of ``loaders`` with their files.

    Raises:
        InputError: if the files have different classes or file suffixes, or the data sets use label 0 differently.
    """
    reduced: dict[str, bool] = {}
    for loader in loaders:
        if not config.get(loader):
            continue
        for data_set in find_data_sets(config, (loader,)):
            where = f'{config.filename}: {loader}'
            kind = data_set_type(config, data_set)
            if kind is None:
                continue
            classes = classes_of(data_set, kind, where)
            if not isinstance(data_set.get('ann_file', ''), (str, type(None))):
                raise InputError(
                    f'{where}: ann_file is a list, but {kind.__name__} reads a single file: merge the files, or use '
                    "type='ConcatDataset' with one data set per file."
                )
            if is_coco(kind):
                check_categories(data_set, classes, where)
            elif is_semantic(kind):
                reduced[loader] = check_semantic(data_set, kind, classes, where)
    if 'train_dataloader' not in loaders:
        reduced |= reduce_zero_label_in_training(config)
    if len(set(reduced.values())) > 1:
        listed = ', '.join(f'{value} in {loader}' for loader, value in reduced.items())
        raise InputError(f'{config.filename}: reduce_zero_label is {listed}: set the same value everywhere.')


def reduce_zero_label_in_training(config: Config) -> dict[str, bool]:
    """Return whether label 0 is ignored in the training data; empty if these are not an MMSegmentation data set."""
    for data_set in find_data_sets(config, ('train_dataloader',)):
        kind = data_set_type(config, data_set)
        if is_semantic(kind):
            default = inspect.signature(kind.__init__).parameters.get('reduce_zero_label')
            value = data_set.get('reduce_zero_label', default.default if default else False)
            return {'train_dataloader': bool(value)}
    return {}


def data_set_type(config: Config, data_set: dict[str, Any]) -> Any:
    """Return the Python class of a data set; None if its name is not registered, which building it will report."""
    from mmengine.registry import DATASETS

    kind = data_set.get('type')
    with DATASETS.switch_scope_and_registry(data_set.get('_scope_') or config.get('default_scope')) as registry:
        return registry.get(kind) if isinstance(kind, str) else kind


def classes_of(data_set: dict[str, Any], kind: Any, where: str) -> tuple[str, ...]:
    """Return the object classes of a data set; empty if it defines none.

    Raises:
        InputError: if ``metainfo.classes`` is a string that is not a file, which would be split into letters.
    """
    classes = (data_set.get('metainfo') or {}).get('classes') or getattr(kind, 'METAINFO', {}).get('classes') or ()
    if isinstance(classes, str):
        if os.path.isfile(classes):
            return tuple(line.strip() for line in Path(classes).read_text().splitlines())
        raise InputError(f'{where}: metainfo.classes is the string {classes!r}: write a tuple, as in ({classes!r},).')
    return tuple(classes)


def is_coco(kind: Any) -> bool:
    """Return whether a data set class numbers its categories like MMDetection's CocoDataset."""
    try:
        from mmdet.datasets import CocoDataset
    except ImportError:
        return False
    return inspect.isclass(kind) and getattr(kind, 'load_data_list', None) is CocoDataset.load_data_list


def is_semantic(kind: Any) -> bool:
    """Return whether a data set class reads images and label maps like MMSegmentation's BaseSegDataset."""
    try:
        from mmseg.datasets import BaseSegDataset
    except ImportError:
        return False
    return inspect.isclass(kind) and getattr(kind, 'load_data_list', None) is BaseSegDataset.load_data_list


def check_categories(data_set: dict[str, Any], classes: Sequence[str], where: str) -> None:
    """Compare classes with the categories of a COCO file, whose order determines MMDetection's labels.

    Raises:
        InputError: if the classes are missing in the file or are in a different order.
    """
    path = annotation_file(data_set)
    if not path:
        return
    there = read_categories(path)
    found = [name for name in there if name in classes]
    if not found:
        raise InputError(
            f'{path} has the classes {shortened(there)}, but none of the classes of the config, {shortened(classes)}. '
            f'Add --classes {",".join(there) if len(there) <= SHOWN else "A,B,..."} or set metainfo in {where}.'
        )
    absent = [name for name in classes if name not in found]
    if absent:
        raise InputError(f'{where}: {missing_class(absent[0], path)} Select the classes to use with --classes.')
    if found != list(classes):
        raise InputError(
            f'{path} lists the classes as {shortened(found)}, but the config as {shortened(classes)}. MMDetection '
            f'numbers classes in the order of each file: use the same order everywhere ({where}).'
        )


def check_semantic(data_set: dict[str, Any], kind: Any, classes: Sequence[str], where: str) -> bool:
    """Compare the file suffixes, ``reduce_zero_label`` and classes of an MMSegmentation data set with its files.

    Returns:
        Whether label 0 is ignored.

    Raises:
        InputError: if they do not match.
    """
    options = inspect.signature(kind.__init__).parameters
    stated = {
        key: data_set.get(key, options[key].default if key in options else None)
        for key in ('img_suffix', 'seg_map_suffix', 'reduce_zero_label')
    }
    check_endings(data_set, stated['img_suffix'], where)
    for step in dicts_in(data_set.get('pipeline')):
        given = step.get('reduce_zero_label')
        if str(step.get('type')).endswith('LoadAnnotations') and given not in (None, stated['reduce_zero_label']):
            raise InputError(
                f'{where}: reduce_zero_label is {stated["reduce_zero_label"]} in the data set and {given} in '
                'LoadAnnotations: set both to the same value, or leave the latter out.'
            )
    known = getattr(kind, 'METAINFO', {}).get('classes') or ()
    if classes and not (known and set(classes) < set(known)):
        complete = {**data_set, **stated}
        maps = label_maps_of(complete)
        seen = check_labels(complete, maps, classes)
        # Published data sets have correct labels, and a subset of one may lack many classes.
        if not known and 'train_dataloader' in where:
            check_occurrence(maps, seen, classes, 1 if stated['reduce_zero_label'] else 0)
    return bool(stated['reduce_zero_label'])


def check_endings(data_set: dict[str, Any], ending: str | None, where: str) -> None:
    """Check that a folder contains images with the suffix of the data set.

    Raises:
        InputError: if there are none; the message lists the suffixes that occur.
    """
    prefix = (data_set.get('data_prefix') or {}).get('img_path')
    folder = Path(data_set.get('data_root') or '', prefix or '')
    if not ending or data_set.get('ann_file') or prefix is None or not folder.is_dir():
        return
    counts: dict[str, int] = {}
    for path in folder.rglob('*'):
        if path.is_file() and not path.name.endswith(ending):
            counts[path.suffix] = counts.get(path.suffix, 0) + 1
    others = ', '.join(f'{count} *{suffix}' for suffix, count in sorted(counts.items(), key=lambda item: -item[1])[:3])
    if any(folder.rglob(f'*{ending}')):
        if others:
            LOGGER.warning('%s: %s in %s are not read, only *%s', where, others, folder, ending)
        return
    best = max(counts, key=counts.__getitem__, default='')
    option = f'--cfg-options {where.rpartition(" ")[2]}.dataset.img_suffix={best}'
    raise InputError(
        f'{folder} has no *{ending} files, but {others}: set img_suffix={best} in every data set, as in {option}.'
        if others
        else f'{folder} has no *{ending} files: set the folder of the data set with --data-root.'
    )


def check_ground_truth(config: Config, loader: str, evaluator: str) -> None:
    """Compare the annotation files of an evaluator with those of its data sets.

    Raises:
        InputError: if the evaluator has no annotation file, or one of different images.
    """
    data_sets = list(find_data_sets(config, (loader,)))
    instances = all(reads_boxes(data_set_type(config, one)) for one in data_sets)
    for node in as_list(config.get(evaluator)):
        if not str(node.get('type')).endswith('CocoMetric') or node.get('format_only') or not data_sets:
            continue
        files = [os.path.join(one.get('data_root') or '', one.get('ann_file') or '') for one in data_sets]
        reference = node.get('ann_file')
        if reference is None:
            steps = [step for one in data_sets for step in dicts_in(one.get('pipeline'))]
            if not any('instances' in step.get('meta_keys', ()) for step in steps):
                several = ' The data sets have several files: merge them into one.' if len(set(files)) > 1 else ''
                raise InputError(f'{config.filename}: {evaluator} has no ann_file: set it to {files[0]}.{several}')
        elif any(os.path.realpath(reference) != os.path.realpath(file) for file in files) and len(set(files)) > 0:
            compare_images(reference, files, f'{config.filename}: {evaluator}.ann_file', loader, instances)


def reads_boxes(kind: Any) -> bool:
    """Return whether a data set class reads boxes and masks like MMDetection's CocoDataset; panoptic ones do not."""
    if not is_coco(kind):
        return False
    from mmdet.datasets import CocoDataset

    return kind.parse_data_info is CocoDataset.parse_data_info


def as_list(node: Any) -> Iterable[Any]:
    """Return the evaluators of a config, which may be one, several or none, as a list."""
    return node if isinstance(node, (list, tuple)) else [node] if node else []


def compare_images(reference: str, files: Sequence[str], where: str, loader: str, boxes: bool) -> None:
    """Check that an evaluator's annotation file has the images and boxes of the data sets under the same ids.

    Args:
        reference: the evaluator's file.
        files: the files of the data sets.
        where: the config file and key of the evaluator's file.
        loader: the loader of the data sets.
        boxes: whether ``files`` contain boxes; those of panoptic data sets do not.

    Raises:
        InputError: if the evaluator's file does not exist, or an image or its boxes differ.
    """
    if not os.path.isfile(reference):
        wanted = f'the annotation file of {loader}, {files[0]}' if boxes else f'a file with the instances of {files[0]}'
        raise InputError(f'{where} {reference} does not exist: set it to {wanted}.')
    known = images_of(reference, boxes)
    seen: dict[Any, str] = {}
    for file in dict.fromkeys(files):
        for number, content in images_of(file, boxes).items() if os.path.isfile(file) else ():
            if known.get(number) != content or seen.setdefault(number, file) != file:
                raise InputError(
                    f'{where} is {reference}, but {loader} reads {file}: image {content[0]} with id {number!r} is '
                    f'missing there or has a different file name{" or different boxes" if boxes else ""}. Use '
                    + ('the same file in both' if boxes else 'a file of the same images')
                    + (', with all images in it.' if len(set(files)) > 1 else '.')
                )


def images_of(path: str, boxes: bool) -> dict[Any, tuple[str, list[Any]]]:
    """Return the file name, and optionally the boxes, of each image of a COCO file, keyed by image id."""
    with open(path, encoding='utf-8') as file:
        content = json.load(file)
    images: dict[Any, tuple[str, list[Any]]] = {one['id']: (one['file_name'], []) for one in content['images']}
    for one in content.get('annotations') or () if boxes else ():
        if one.get('image_id') in images:
            images[one['image_id']][1].append(one.get('bbox'))
    return images
