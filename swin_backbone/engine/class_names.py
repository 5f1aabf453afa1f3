"""Adaptation of a config to custom data: a different list of classes, and boxes without masks."""

import colorsys
import inspect
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from swin_backbone.engine.class_check import (
    annotation_file,
    check_labels,
    find_data_sets,
    label_maps_of,
    missing_class,
    read_categories,
    shortened,
)
from swin_backbone.engine.config import EVALUATORS, LOADERS, dicts_in
from swin_backbone.engine.panoptic_classes import things_among
from swin_backbone.errors import InputError

LOGGER = logging.getLogger('swin_backbone')
OTHER_CLASSES = ('semantic_head', 'rpn_head')
"""Heads whose classes are not the object classes: stuff segmentation and objectness."""

OTHER_TYPES = ('STDCHead',)
"""Head types whose classes are not the object classes: edge detection."""

QUERIES = ('num_queries', 'num_query', 'num_proposals')
FILE_OPTIONS = ('img_suffix', 'seg_map_suffix', 'reduce_zero_label')
"""Options of an MMSegmentation data set that describe its files."""


def fit_to_data(config: Config, classes: str | None, no_masks: bool) -> None:
    """Apply ``--classes`` and ``--no-masks`` to a config.

    Raises:
        InputError: if an option does not fit the config or the data.
    """
    if classes is not None:
        set_classes(config, read_classes(classes))
    if no_masks:
        drop_masks(config)


def read_classes(option: str) -> list[str]:
    """Parse ``--classes``: comma-separated names, or a file with one name per line.

    Raises:
        InputError: if the file is missing, or a name is empty or repeated.
    """
    path = Path(option)
    if path.is_file():
        names = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    elif path.suffix in ('.txt', '.names') or os.sep in option:
        raise InputError(f'--classes {option} does not exist: give a file with one name per line, or names A,B,...')
    else:
        names = [name.strip() for name in option.split(',')]
    if not names or not all(names):
        raise InputError(
            f'--classes {option} contains an empty name: give comma-separated names, or a file with one per line.'
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f'--classes {option} lists {", ".join(twice)} more than once: list every class once.')
    return names


def set_classes(config: Config, names: Sequence[str]) -> None:
    """Set the classes of every head and data set of a config, and check them against the data.

    A detector's classes are put in the order of the annotation file, which determines MMDetection's labels.

    Raises:
        InputError: if the data do not have these classes.
    """
    names = list(names)
    data_sets = list(find_data_sets(config))
    if 'decode_head' in config.model:
        check_softmax(config, len(names))
        for data_set in data_sets:
            adapt_semantic(data_set, names)
    else:
        names = order_as_annotated(data_sets, names)
    name_classes(config, names)


def name_classes(config: Config, names: Sequence[str]) -> None:
    """Set the classes of every head and data set of a config; only panoptic annotation files are read.

    Raises:
        InputError: if the heads cannot have different classes.
    """
    metainfo: dict[str, Any] = dict(classes=tuple(names), palette=palette(len(names)))
    things = things_among(config, names)
    if things is not None:
        metainfo.update(thing_classes=tuple(things), stuff_classes=tuple(names[len(things) :]))
    for data_set in find_data_sets(config):
        data_set['metainfo'] = metainfo
    set_head_classes(config, len(names), things if things is None else len(names) - len(things))


def fit_to_checkpoint(
    config: Config, content: Mapping[str, Any], classes: Sequence[str] | None = None
) -> dict[str, Any] | None:
    """Set the classes of a config to those of a checkpoint, and remove masks if it was trained without them.

    Args:
        config: changed in place.
        content: content of a checkpoint of a whole model.
        classes: the classes given by the user, which must be the same.

    Returns:
        The ``classes`` of the checkpoint and its ``palette``, if it has one.

    Raises:
        InputError: if the classes of checkpoint and user differ, or the heads cannot have the checkpoint's classes.
    """
    meta = {key.lower(): value for key, value in (content.get('meta') or {}).items()}
    known = {key.lower(): value for key, value in (meta.get('dataset_meta') or meta).items()}
    names = tuple(known.get('classes') or ())
    if names and classes is not None and set(names) != set(classes):
        raise InputError(f'the checkpoint was trained on {shortened(names)}, not on {shortened(list(classes))}.')
    counts = {head.get('num_classes') for head in heads_in(config.model)} - {None}
    if names and counts and counts != {len(names)}:
        LOGGER.warning('classes of the checkpoint: %s', shortened(names))
        name_classes(config, names)
    state = content.get('state_dict', content)
    roi_head = config.model.get('roi_head') or {}
    if roi_head.get('mask_head') and not any(name.startswith('roi_head.mask_head') for name in state):
        LOGGER.warning('the checkpoint has no mask head: only boxes are predicted')
        drop_masks(config)
    return {key: known[key] for key in ('classes', 'palette') if known.get(key)} if names else None


def set_head_classes(config: Config, count: int, stuff: int | None = None) -> None:
    """Set the number of classes of every head of a model, and adapt loss weights and the limit of detections.

    Args:
        config: changed in place.
        count: number of classes.
        stuff: number of stuff classes among them, which come last; None if unknown.

    Raises:
        InputError: if no head has classes, the classes have different loss weights, or a head separates things from
            stuff and ``stuff`` is None.
    """
    heads = list(heads_in(config.model))
    if not heads:
        kind = config.model.get('type')
        raise InputError(
            f'--classes: no head of {kind} in {config.filename} has num_classes: set the classes in the config instead.'
        )
    for head in heads:
        old = head.get('num_classes', head.get('num_things_classes', 0) + head.get('num_stuff_classes', 0))
        if head.get('num_stuff_classes') and stuff is None:
            raise InputError(
                f'--classes: {head.get("type")} separates things from stuff: set num_things_classes, '
                'num_stuff_classes and the metainfo of the data sets in the config instead.'
            )
        if 'num_classes' in head:
            head['num_classes'] = count
        else:
            head.update(num_things_classes=count - (stuff or 0), num_stuff_classes=stuff or 0)
        for loss in dicts_in(head):
            if isinstance(loss.get('class_weight'), (list, tuple)):
                loss['class_weight'] = adapt_class_weights(loss['class_weight'], old, count)
    place, most = detection_limit(config, count)
    if place is not None:
        LOGGER.warning('%s lowered to %d, the number of pairs of a query and a class', place[1], most)
        place[0][place[1]] = most


def adapt_class_weights(weights: Sequence[float], old: int, count: int) -> list[float]:
    """Adapt loss weights from ``old`` to ``count`` classes; a weight for 'no object' may follow them.

    Raises:
        InputError: if the classes have different weights.
    """
    own, rest = list(weights[:old]), list(weights[old:])
    if len(own) != old or len(rest) > 1 or len(set(own)) > 1:
        raise InputError(
            f'--classes: class_weight has {len(weights)} weights for {old} classes, which cannot be adapted to {count} '
            'classes: set class_weight in the config.'
        )
    return own[:1] * count + rest


def detection_limit(config: Config, count: int) -> tuple[tuple[dict[str, Any], str] | None, int]:
    """Find a limit of detections that exceeds the number of pairs of a query and a class.

    Returns:
        The dict and key of the limit, or None if no limit is too high; and the number of pairs.
    """
    model = config.model
    parts = [model, *(model.get(key) or {} for key in ('panoptic_head', 'bbox_head', 'rpn_head'))]
    numbers = [part.get(key) for part in parts if isinstance(part, dict) for key in QUERIES]
    queries = next((number for number in numbers if isinstance(number, int)), None)
    for node in dicts_in(model.get('test_cfg')):
        for key in ('max_per_image', 'max_per_img'):
            if queries is not None and isinstance(node.get(key), int) and node[key] > queries * count:
                return (node, key), queries * count
    return None, (queries or 0) * count


def check_softmax(config: Config, count: int) -> None:
    """Check that a single class is not segmented by a softmax, which is constant and learns nothing.

    Raises:
        InputError: if the decode head has one class and no sigmoid.
    """
    heads = config.model.get('decode_head')
    head = heads[-1] if isinstance(heads, (list, tuple)) else heads
    if count != 1 or 'loss_cls' in head or any(part.get('use_sigmoid') for part in dicts_in(head.get('loss_decode'))):
        return
    raise InputError(
        f'{config.filename} would segment a single class, but a softmax over one class learns nothing: give two '
        'classes, background first, as in --classes background,part, with reduce_zero_label=False if label 0 is '
        'background.'
    )


def heads_in(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every part of a model config that has the object classes."""
    if isinstance(node, dict):
        if ('num_classes' in node or 'num_things_classes' in node) and node.get('type') not in OTHER_TYPES:
            yield node
        for key, child in node.items():
            if key not in OTHER_CLASSES:
                yield from heads_in(child)
    elif isinstance(node, (list, tuple)):
        for child in node:
            yield from heads_in(child)


def palette(count: int) -> list[tuple[int, int, int]]:
    """Return distinct RGB colours for any number of classes, with hues spaced by the golden angle."""
    colours = (colorsys.hsv_to_rgb(index * 0.618034 % 1.0, 0.85, 0.95) for index in range(count))
    return [(round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in colours]


def order_as_annotated(data_sets: Sequence[dict[str, Any]], names: list[str]) -> list[str]:
    """Return the classes in the order of the annotation files.

    Raises:
        InputError: if a class is missing in a file or repeated, or the order differs between files.
    """
    ordered, first = names, None
    for path in sorted({annotation_file(data_set) for data_set in data_sets} - {''}):
        found = [name for name in read_categories(path) if name in names]
        absent = [name for name in names if name not in found]
        if absent:
            raise InputError(missing_class(absent[0], path))
        if len(found) > len(names):
            raise InputError(f'{path} has two categories with the same name: merge them in the file first.')
        if first is not None and found != ordered:
            raise InputError(
                f'{first} and {path} list the classes in different orders, so MMDetection would assign different '
                'labels: write the categories of both in the same order.'
            )
        ordered, first = found, path
    if ordered != names:
        LOGGER.warning('classes reordered as in the annotation file: %s', ', '.join(ordered))
    return ordered


def adapt_semantic(data_set: dict[str, Any], names: Sequence[str]) -> None:
    """Set the classes of an MMSegmentation data set.

    If they are a subset of the classes of a published data set, that data set remaps its labels. Otherwise, the data
    set becomes a ``BaseSegDataset``, whose labels follow the order of the classes.

    Raises:
        InputError: if the label maps contain labels beyond the last class.
    """
    from mmseg.registry import DATASETS

    kind = DATASETS.get(data_set['type'])
    known = kind.METAINFO.get('classes') or ()
    if set(names) <= set(known):
        if len(names) < len(known):
            LOGGER.warning('%s: using %d of %d classes, ignoring the others', data_set['type'], len(names), len(known))
        return
    arguments = inspect.signature(kind.__init__).parameters
    for option in FILE_OPTIONS:
        if option in arguments:
            data_set.setdefault(option, arguments[option].default)
    data_set['type'] = 'BaseSegDataset'
    check_labels(data_set, label_maps_of(data_set), names)


def drop_masks(config: Config) -> None:
    """Make a detector train and evaluate on boxes only; a detector without masks is not changed.

    Raises:
        InputError: if the config is for a segmenter.
    """
    if 'decode_head' in config.model:
        raise InputError('--no-masks is for detectors, but the config is for a segmenter: leave it out.')
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
    """Return whether a pipeline step needs masks (InstaBoost pastes objects by their masks)."""
    return step['type'].rpartition('.')[2] == 'InstaBoost'
