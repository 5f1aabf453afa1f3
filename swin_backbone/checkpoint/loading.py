"""Load weights into a backbone: directly, or from inside any ``load_state_dict``."""

import logging
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from swin_backbone.checkpoint.adapt import PATCH
from swin_backbone.checkpoint.dialects import find_backbone
from swin_backbone.checkpoint.download import find_file
from swin_backbone.checkpoint.merge import merge, require_complete
from swin_backbone.checkpoint.reading import read_checkpoint
from swin_backbone.checkpoint.report import LoadReport
from swin_backbone.errors import InputError

LOGGER = logging.getLogger('swin_backbone')


def load_pretrained(
    model: nn.Module, source: str | os.PathLike[str] | Mapping[str, Any], strict: bool = True
) -> LoadReport:
    """Load weights from any known layout into ``model``, completely or not at all.

    Args:
        model: a :class:`swin_backbone.SwinTransformer`.
        source: a published name (:data:`swin_backbone.weights.WEIGHTS`), a path or an address of a .pth or .safetensors
            file, of a backbone, a classifier or a whole detector; or what such a file holds.
        strict: False loads what fits and lists the rest in the report and in a warning.

    Returns:
        What was loaded, adapted, left at its initial value and left out; it is logged too.

    Raises:
        InputError: the file cannot be read or found, holds no Swin backbone, or (when strict) does not cover ``model``.
            The model is unchanged then.
    """
    parameters = dict(model.named_parameters())
    if PATCH not in parameters:
        inner = next((name.removesuffix(PATCH) for name in parameters if name.endswith(f'.{PATCH}')), None)
        hint = 'give a SwinTransformer' if inner is None else f'give its part {inner.rstrip(".")!r}'
        raise InputError(f'weights can be loaded into a backbone, not into a {type(model).__name__}: {hint}.')
    if isinstance(source, Mapping):
        label, checkpoint = 'the state dict', source
    else:
        path = find_file(source)
        label, checkpoint = str(path), read_checkpoint(path)
    found = find_backbone(checkpoint, label)
    values, report = merge(found, model, label)
    if strict:
        require_complete(report, found, model)
    with torch.no_grad():
        for name, value in values.items():
            parameters[name].copy_(value)
    announce(report)
    return report


def convert_on_load(
    module: nn.Module,
    state_dict: dict[str, Any],
    prefix: str,
    local_metadata: dict[str, Any],
    strict: bool,
    missing_keys: list[str],
    unexpected_keys: list[str],
    error_msgs: list[str],
) -> None:
    """Convert foreign weights inside ``load_state_dict``, a pre-hook with module; native ones pass untouched.

    PyTorch does not tell a hook whether the caller is strict, and one that is not (mmengine is among them) would only
    warn of a backbone without weights. So nothing but full coverage passes here, with the exceptions of
    :func:`swin_backbone.checkpoint.merge.merge`; :func:`load_pretrained` with ``strict=False`` is the way around.

    Args:
        module: the backbone.
        state_dict: the weights of everything, or of the backbone, whose keys begin with ``prefix``; changed in place.
        prefix: the path of the backbone in the model that is loaded, with a dot at its end.
        local_metadata: not used.
        strict: not used: it is always True.
        missing_keys: not used.
        unexpected_keys: not used.
        error_msgs: not used.

    Raises:
        InputError: there are no weights under ``prefix``, or they do not cover the backbone.
    """
    mine = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
    parameters = dict(module.named_parameters())
    if mine.keys() == parameters.keys() and all(fits(mine[name], parameters[name]) for name in mine):
        return
    label = f'the part {prefix.rstrip(".")!r} of the state dict' if prefix else 'the state dict'
    if not mine:
        raise InputError(
            f'{label} is empty: there are no weights for the backbone; load a file of the backbone alone with '
            'init_cfg or --weights, and other parts into the modules they belong to.'
        )
    found = find_backbone(mine, label)
    values, report = merge(found, module, label)
    require_complete(report, found, module)
    for key in [key for key in state_dict if key.startswith(prefix)]:
        del state_dict[key]
    kept = {name: parameters[name].detach() for name in report.new}
    state_dict.update({prefix + name: value for name, value in {**values, **kept}.items()})
    announce(report)


def fits(value: Any, parameter: torch.Tensor) -> bool:
    """Whether ``value`` is a tensor of the parameter's shape."""
    return isinstance(value, torch.Tensor) and value.shape == parameter.shape


def announce(report: LoadReport) -> None:
    """Log what was done, in one line, and what the user should know, one line each."""
    LOGGER.log(logging.INFO if report.complete else logging.WARNING, '%s', report)
    for warning in report.warnings:
        LOGGER.warning('%s: %s', report.source, warning)
