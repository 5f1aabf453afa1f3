"""Fit a config to one's own data: another list of classes, and boxes without masks."""

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
    maps_of,
    missing_class,
    read_categories,
    shortened,
)
from swin_backbone.engine.config import EVALUATORS, LOADERS, dicts_in
from swin_backbone.engine.panoptic_classes import things_among
from swin_backbone.errors import InputError

LOGGER = logging.getLogger('swin_backbone')
OTHER_CLASSES = ('semantic_head', 'rpn_head')
"""Heads whose classes are not those of the objects: stuff maps, and object or not."""

OTHER_TYPES = ('STDCHead',)
"""Types of heads of the same kind: edge or not."""
QUERIES = ('num_queries', 'num_query', 'num_proposals')
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
        check_softmax(config, len(names))
        for data_set in data_sets:
            adapt_semantic(data_set, names)
    else:
        names = order_as_annotated(data_sets, names)
    name_classes(config, names)


def name_classes(config: Config, names: Sequence[str]) -> None:
    """Write classes into every head and data set of a config; of the data, only panoptic ones are looked at.

    Raises:
        InputError: the heads cannot have other classes.
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
    """Give a config the classes that a checkpoint was trained on, and no masks where it was trained without.

    Args:
        config: changed in place.
        content: of a checkpoint of a whole model.
        classes: those that the user names, which must be the same ones.

    Returns:
        The ``classes``, and possibly the ``palette``, that the checkpoint names.

    Raises:
        InputError: the checkpoint names other classes than the user, or the heads cannot have its classes.
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
        LOGGER.warning('the checkpoint has no mask head: boxes alone')
        drop_masks(config)
    return {key: known[key] for key in ('classes', 'palette') if known.get(key)} if names else None


def set_head_classes(config: Config, count: int, stuff: int | None = None) -> None:
    """Give every head of a model this many classes, with their loss weights and at most as many detections.

    Args:
        config: changed in place.
        count: number of classes.
        stuff: how many of them, the last ones, are stuff; None if that is not known.

    Raises:
        InputError: the model has no head with classes, or classes of different weights; or it has a head for things and
            stuff, and ``stuff`` is None.
    """
    heads = list(heads_in(config.model))
    if not heads:
        kind = config.model.get('type')
        raise InputError(
            f'--classes: no head of {kind} in {config.filename} has num_classes: set its classes in the config instead.'
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
                loss['class_weight'] = fit_weights(loss['class_weight'], old, count)
    place, most = detection_limit(config, count)
    if place is not None:
        LOGGER.warning('%s lowered to %d: there are no more pairs of a query and a class', place[1], most)
        place[0][place[1]] = most


def fit_weights(weights: Sequence[float], old: int, count: int) -> list[float]:
    """The weights of ``old`` classes for ``count`` classes; one for 'no object' may follow them.

    Raises:
        InputError: the classes have different weights.
    """
    own, rest = list(weights[:old]), list(weights[old:])
    if len(own) != old or len(rest) > 1 or len(set(own)) > 1:
        raise InputError(
            f'--classes: class_weight has {len(weights)} weights for {old} classes, which cannot be carried over to '
            f'{count}: set class_weight in the config.'
        )
    return own[:1] * count + rest


def detection_limit(config: Config, count: int) -> tuple[tuple[dict[str, Any], str] | None, int]:
    """Find a limit of detections above what the queries of a model can give.

    Returns:
        Where the limit is, as a dict and its key, if it is too high; and the number of pairs of a query and a class.
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
    """Refuse to segment a single class by a softmax, which gives every pixel to it and learns nothing.

    Raises:
        InputError: the decode head has one class and no sigmoid.
    """
    heads = config.model.get('decode_head')
    head = heads[-1] if isinstance(heads, (list, tuple)) else heads
    if count != 1 or 'loss_cls' in head or any(part.get('use_sigmoid') for part in dicts_in(head.get('loss_decode'))):
        return
    raise InputError(
        f'{config.filename} would segment a single class, and a softmax over one class learns nothing: name two, the '
        'background first, as in --classes background,part, with reduce_zero_label=False if label 0 is background.'
    )


def heads_in(node: Any) -> Iterator[dict[str, Any]]:
    """Every part of a model that has the object classes."""
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
    check_labels(data_set, maps_of(data_set), names)


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
