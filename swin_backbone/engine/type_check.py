"""Checks of the types and keys of a config against the registries, before anything is built or written."""

import difflib
from typing import Any

from mmengine import registry as root
from mmengine.config import Config
from mmengine.registry import Registry

from swin_backbone.engine.config import EVALUATORS, LOADERS
from swin_backbone.engine.error_explanations import (
    arguments_of,
    describe_unknown,
    dicts_with_paths,
    is_open,
    unknown_type,
)
from swin_backbone.errors import InputError

SECTIONS: dict[str, Registry] = {
    'default_hooks': root.HOOKS,
    'custom_hooks': root.HOOKS,
    'visualizer': root.VISUALIZERS,
    'train_cfg': root.LOOPS,
    'val_cfg': root.LOOPS,
    'test_cfg': root.LOOPS,
    'optim_wrapper': root.OPTIM_WRAPPERS,
    'param_scheduler': root.PARAM_SCHEDULERS,
    **dict.fromkeys(LOADERS, root.DATASETS),
    **dict.fromkeys(EVALUATORS, root.METRICS),
}
"""Registry of the dicts in each section of a config; :mod:`~swin_backbone.engine.model_check` checks models."""

PARTS: dict[str, Registry] = {
    'vis_backends': root.VISBACKENDS,
    'optimizer': root.OPTIMIZERS,
    'pipeline': root.TRANSFORMS,
    'transforms': root.TRANSFORMS,
    'sampler': root.DATA_SAMPLERS,
    'batch_sampler': root.DATA_SAMPLERS,
    'collate_fn': root.FUNCTIONS,
}
"""Registry of the dicts under a key inside a section."""

TAKEN_BEFORE = {'type', '_scope_', 'priority', 'convert_to_iter_based', 'optimizer', 'paramwise_cfg', 'constructor'}
"""Keys that mmengine removes before it calls a constructor."""


def check_types(config: Config) -> None:
    """Check the type and keys of every part outside the model that mmengine builds by its type.

    Raises:
        InputError: if a type is not registered, or its constructor does not accept a key.
    """
    for section, registry in SECTIONS.items():
        for path, node in dicts_with_paths(config.get(section), section):
            found = registry_of(path, registry)
            if found is not None and isinstance(node.get('type'), str) and not is_foreign(config, path):
                check_type(config, path, node, found)


def registry_of(path: str, registry: Registry) -> Registry | None:
    """Return the registry of a part by the last key of its path; None for parts that mmengine does not build."""
    words = [word for word in path.split('.') if not word.isdigit()]
    if len(words) == 1 or words[-1] in ('dataset', 'datasets') or (len(words) == 2 and words[0] == 'default_hooks'):
        return registry
    return PARTS.get(words[-1])


def is_foreign(config: Config, path: str) -> bool:
    """Return whether a step is an albumentations transform, i.e. inside a step of type Albu."""
    parents = {
        name: node.get('type') for name, node in dicts_with_paths(config.get(path.split('.')[0]), path.split('.')[0])
    }
    return any(path.startswith(f'{name}.') and kind == 'Albu' for name, kind in parents.items())


def check_type(config: Config, path: str, node: dict[str, Any], registry: Registry) -> None:
    """Check one part.

    Raises:
        InputError: see :func:`check_types`.
    """
    kind = node['type']
    with registry.switch_scope_and_registry(node.get('_scope_') or config.get('default_scope')) as scoped:
        made = scoped.get(kind)
        if made is None:
            raise InputError(f'{config.filename}: {path}: {unknown_type(KeyError(kind), kind, scoped)}')
    known = arguments_of(made)
    unknown = [key for key in node if key not in known and key not in TAKEN_BEFORE]
    if is_open(made):  # unknown keys may be valid keyword arguments; report only likely misspellings
        unknown = [key for key in unknown if difflib.get_close_matches(key, known, n=1, cutoff=0.85)]
    if unknown:
        raise InputError(f'{config.filename}: {path} ({kind}) {describe_unknown(unknown, path, made, config)}')
