"""Thing and stuff classes of panoptic MMDetection data sets."""

import inspect
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config

from swin_backbone.engine.class_check import annotation_file, data_set_type, find_data_sets, load_categories
from swin_backbone.errors import InputError


def is_panoptic(kind: Any) -> bool:
    """Return whether a data set class reads panoptic annotations like MMDetection's CocoPanopticDataset."""
    try:
        from mmdet.datasets import CocoPanopticDataset
    except ImportError:
        return False
    return inspect.isclass(kind) and issubclass(kind, CocoPanopticDataset)


def panoptic_sets(config: Config) -> list[dict[str, Any]]:
    """Return the panoptic data sets of a config."""
    return [one for one in find_data_sets(config) if is_panoptic(data_set_type(config, one))]


def things_among(config: Config, names: Sequence[str]) -> list[str] | None:
    """Return the classes that are things in the annotation files; None for a config without panoptic data sets.

    Raises:
        InputError: if a file is missing, has no ``isthing``, contradicts another one, or lists stuff before things.
    """
    data_sets = panoptic_sets(config)
    if not data_sets:
        return None
    found: list[str] | None = None
    for path in sorted({annotation_file(one) for one in data_sets}):
        if not path:
            raise InputError(
                f'--classes: {config.filename} separates things from stuff, but its annotation file, which defines '
                'them, does not exist: set the folder of the data with --data-root.'
            )
        kinds = {one['name']: one.get('isthing') for one in load_categories(path)}
        unknown = [name for name in names if kinds.get(name) not in (0, 1)]
        if unknown:
            raise InputError(
                f'{path} does not define whether {unknown[0]} is a thing: add isthing, 0 or 1, to the category.'
            )
        things = [name for name in names if kinds[name]]
        if things != list(names[: len(things)]):
            stuff = next(name for name in names if not kinds[name])
            raise InputError(
                f'{path} lists the stuff class {stuff} before the thing class {things[-1]}, but MMDetection numbers '
                'things first: list all thing categories before the stuff categories.'
            )
        if found is not None and things != found:
            other = sorted(set(things) ^ set(found))[0]
            raise InputError(
                f'{path} and another annotation file disagree on whether {other} is a thing: correct them.'
            )
        found = things
    return found
