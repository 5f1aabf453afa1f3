"""Fit a config to somebody's own data: another list of classes, and boxes without masks."""

import colorsys
import difflib
import inspect
import json
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from swin_backbone.engine.config import EVALUATORS, LOADERS, dicts_in
from swin_backbone.errors import InputError

LOGGER = logging.getLogger('swin_backbone')
OTHER_CLASSES = ('semantic_head', 'rpn_head')
"""Heads whose classes are not those of the objects: stuff maps, and object or not."""
SAMPLED_MAPS = 20
UNLABELLED = 255
FILE_OPTIONS = ('img_suffix', 'seg_map_suffix', 'reduce_zero_label')
"""What a data set of MMSegmentation knows about its files, beside its classes."""


def fit_to_data(config: Config, classes: str | None, no_masks: bool) -> None:
    """``--classes`` and ``--no-masks``.

    Raises:
        InputError: an option does not fit the config or the data.
    """
    if classes is not None:
        set_classes(config, read_classes(classes))
    if no_masks:
        drop_masks(config)


def read_classes(option: str) -> list[str]:
    """The classes of ``--classes``: names between commas, or a file with a name per line.

    Raises:
        InputError: the file is missing, or a name is empty or comes twice.
    """
    path = Path(option)
    if path.is_file():
        names = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    elif path.suffix in ('.txt', '.names') or os.sep in option:
        raise InputError(f'--classes {option} is no file: give a file with a name per line, or names between commas.')
    else:
        names = [name.strip() for name in option.split(',')]
    if not names or not all(names):
        raise InputError(
            f'--classes {option} has an empty name: give names between commas, or a file with one per line.'
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f'--classes {option} names {", ".join(twice)} more than once: give every class once.')
    return names


def set_classes(config: Config, names: Sequence[str]) -> None:
    """Train and evaluate on these classes: every head, data set and evaluator of the config, checked against the data.

    A detector's classes are put in the order of the annotation file, because that is how MMDetection numbers them.

    Raises:
        InputError: the data do not have these classes.
    """
    names = list(names)
    data_sets = list(find_data_sets(config))
    if 'decode_head' in config.model:
        for data_set in data_sets:
            adapt_semantic(data_set, names)
    else:
        names = order_as_annotated(data_sets, names)
    metainfo = dict(classes=tuple(names), palette=palette(len(names)))
    for data_set in data_sets:
        data_set['metainfo'] = metainfo
    for head in heads_in(config.model):
        head['num_classes'] = len(names)


def find_data_sets(config: Config) -> Iterator[dict[str, Any]]:
    """The innermost data sets of all loaders."""
    for loader in LOADERS:
        for node in dicts_in(config.get(loader) or {}):
            if 'data_root' in node and 'dataset' not in node:
                yield node


def heads_in(node: Any) -> Iterator[dict[str, Any]]:
    """Every part of a model that has the object classes."""
    if isinstance(node, dict):
        if 'num_classes' in node:
            yield node
        for key, child in node.items():
            if key not in OTHER_CLASSES:
                yield from heads_in(child)
    elif isinstance(node, (list, tuple)):
        for child in node:
            yield from heads_in(child)


def palette(count: int) -> list[tuple[int, int, int]]:
    """Colours that stay apart however many there are: hues a golden angle from one another."""
    colours = (colorsys.hsv_to_rgb(index * 0.618034 % 1.0, 0.85, 0.95) for index in range(count))
    return [(round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in colours]


def order_as_annotated(data_sets: Sequence[dict[str, Any]], names: list[str]) -> list[str]:
    """The classes in the order of the annotation files.

    Raises:
        InputError: a file lacks one of them, has one twice, or orders them in another way than the others.
    """
    ordered, first = names, None
    for path in sorted({annotation_file(data_set) for data_set in data_sets} - {''}):
        found = [name for name in read_categories(path) if name in names]
        absent = [name for name in names if name not in found]
        if absent:
            raise InputError(missing_class(absent[0], path))
        if len(found) > len(names):
            raise InputError(f'{path} has two categories of one name among the classes: merge them in the file first.')
        if first is not None and found != ordered:
            raise InputError(
                f'{first} and {path} list the classes in different orders, which MMDetection would take for different '
                'classes: write the categories of both in one order.'
            )
        ordered, first = found, path
    if ordered != names:
        LOGGER.warning('classes in the order of the annotation file: %s', ', '.join(ordered))
    return ordered


def annotation_file(data_set: dict[str, Any]) -> str:
    """The COCO file of a data set; empty if it has none or it is not there, which is for others to say."""
    path = os.path.join(data_set['data_root'] or '', data_set.get('ann_file') or '')
    return path if path.endswith('.json') and os.path.isfile(path) else ''


def read_categories(path: str) -> list[str]:
    """The names of the categories of a COCO file, in its order."""
    try:
        with open(path) as file:
            return [category['name'] for category in json.load(file)['categories']]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f'{path} is no annotation file in the format of COCO ({error}): convert it first.') from error


def missing_class(name: str, path: str) -> str:
    """The error for a class that an annotation file does not have."""
    there = read_categories(path)
    close = difflib.get_close_matches(name, there, n=1)
    hint = f'did you mean {close[0]!r}?' if close else 'give names from the file.'
    some = ', '.join(there[:10]) + (f' and {len(there) - 10} more' if len(there) > 10 else '')
    return f'class {name!r} is not in {path}, which has {some}: {hint}'


def adapt_semantic(data_set: dict[str, Any], names: Sequence[str]) -> None:
    """Let a data set of MMSegmentation have these classes.

    Some classes of a known data set stay with it, which picks them out of its maps; any others make it a general one,
    whose maps number the classes as they are listed.

    Raises:
        InputError: the maps hold labels that no class has.
    """
    from mmseg.registry import DATASETS

    kind = DATASETS.get(data_set['type'])
    known = kind.METAINFO.get('classes') or ()
    if set(names) <= set(known):
        if len(names) < len(known):
            LOGGER.warning('%s: %d of its %d classes, the others are ignored', data_set['type'], len(names), len(known))
        return
    arguments = inspect.signature(kind.__init__).parameters
    for option in FILE_OPTIONS:
        if option in arguments:
            data_set.setdefault(option, arguments[option].default)
    data_set['type'] = 'BaseSegDataset'
    check_labels(data_set, len(names))


def check_labels(data_set: dict[str, Any], count: int) -> None:
    """Refuse maps with labels beyond the classes, by a sample of them."""
    import numpy as np
    from PIL import Image

    folder = Path(data_set['data_root'] or '', (data_set.get('data_prefix') or {}).get('seg_map_path', ''))
    maps = sorted(folder.glob(f'*{data_set.get("seg_map_suffix", ".png")}'))
    first = 1 if data_set.get('reduce_zero_label') else 0
    for path in maps[:: max(1, len(maps) // SAMPLED_MAPS)]:
        labels = np.unique(np.asarray(Image.open(path)))
        highest = max((int(label) for label in labels if label != UNLABELLED), default=0)
        if highest >= first + count:
            raise InputError(
                f'{path} holds label {highest}, but {count} classes have the labels {first} to {first + count - 1}: '
                'name all classes, in the order of their labels.'
            )


def drop_masks(config: Config) -> None:
    """Train and evaluate a detector on boxes alone; one without masks stays as it is.

    Raises:
        InputError: the config is no detector's.
    """
    if 'decode_head' in config.model:
        raise InputError('--no-masks is for detectors, and the config has a segmenter: leave it out.')
    roi_head = config.model.get('roi_head') or {}
    for part in ('mask_head', 'mask_roi_extractor'):
        if part in roi_head:
            roi_head[part] = None
    if 'pad_mask' in (config.model.get('data_preprocessor') or {}):
        config.model.data_preprocessor.pad_mask = False
    for key in (*LOADERS, 'tta_pipeline'):
        for node in dicts_in(config.get(key) or {}):
            if node.get('type') == 'LoadAnnotations' and node.get('with_mask'):
                node['with_mask'] = False
            if 'pipeline' in node:
                node['pipeline'] = [step for step in node['pipeline'] if not needs_masks(step)]
    for key in EVALUATORS:
        for evaluator in dicts_in(config.get(key) or {}):
            if isinstance(evaluator.get('metric'), (list, tuple)):
                evaluator['metric'] = [metric for metric in evaluator['metric'] if metric != 'segm']


def needs_masks(step: dict[str, Any]) -> bool:
    """Whether a step of a pipeline moves objects along their masks."""
    return step['type'].rpartition('.')[2] == 'InstaBoost'
