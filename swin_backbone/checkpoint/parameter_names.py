"""Parameter names without the components that module wrappers such as FSDP and torch.compile insert."""

import re
from collections.abc import Mapping

from torch import nn

from swin_backbone.checkpoint.layouts import MMDET, rename

HOOKED_WRAPPERS = ('_checkpoint_wrapped_module', '_fsdp_wrapped_module', '_fpw_module')
"""Components that the wrapper's own hooks add when a state dict is loaded."""

UNHOOKED_WRAPPERS = ('_orig_mod',)
"""Components that must be in the state dict (torch.compile)."""


def wrapper_pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    """Return the regular expression that matches any of ``names`` as a component of a path."""
    return re.compile(rf'(?:^|(?<=\.))(?:{"|".join(names)})\.')


ANY, NOT_IN_STATE_DICTS = wrapper_pattern((*HOOKED_WRAPPERS, *UNHOOKED_WRAPPERS)), wrapper_pattern(HOOKED_WRAPPERS)


def plain(name: str) -> str:
    """Remove the components of wrappers from ``name``."""
    return ANY.sub('', name)


def native(name: str) -> str:
    """Return the native name for a native name or one of the toolkits', without the components of wrappers."""
    return rename(plain(name), MMDET)


def has_toolkit_names(model: nn.Module) -> bool:
    """Whether a backbone has the toolkits' parameter names and their channel order in merging layers."""
    return any(plain(name) == 'patch_embed.projection.weight' for name, _ in model.named_parameters())


def parameters_of(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters of ``model`` by native name."""
    return {native(name): parameter for name, parameter in model.named_parameters()}


def modules_of(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules of ``model`` by native name; for a wrapper, the module in it."""
    return {native(f'{name}.').rstrip('.'): module for name, module in model.named_modules()}


def state_dict_names(named: Mapping[str, object]) -> dict[str, str]:
    """Map the native names of ``named`` to the names that ``load_state_dict`` expects."""
    return {native(name): NOT_IN_STATE_DICTS.sub('', name) for name in named}
