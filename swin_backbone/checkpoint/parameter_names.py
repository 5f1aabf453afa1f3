"""Names without the words that wrappers of modules put into them, of files and of models."""

import re
from collections.abc import Mapping

from torch import nn

from swin_backbone.checkpoint.layouts import MMDET, rename

HOOKED_WRAPPERS = ('_checkpoint_wrapped_module', '_fsdp_wrapped_module', '_fpw_module')
"""Wrappers that take names without their word when a state dict is loaded."""

UNHOOKED_WRAPPERS = ('_orig_mod',)
"""Those that do not (torch.compile)."""


def wrapper_pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    """What finds any of ``names`` as a part of a path."""
    return re.compile(rf'(?:^|(?<=\.))(?:{"|".join(names)})\.')


ANY, NOT_IN_STATE_DICTS = wrapper_pattern((*HOOKED_WRAPPERS, *UNHOOKED_WRAPPERS)), words(HOOKED)


def plain(name: str) -> str:
    """``name`` without the words of wrappers."""
    return ANY.sub('', name)


def native(name: str) -> str:
    """The native name for a native name or one of the toolkits', without the words of wrappers."""
    return rename(plain(name), MMDET)


def has_toolkit_names(model: nn.Module) -> bool:
    """Whether the parameters of a backbone have the names, and its merging layers the order, of the toolkits."""
    return any(plain(name) == 'patch_embed.projection.weight' for name, _ in model.named_parameters())


def parameters_of(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of ``model`` by their native names."""
    return {native(name): parameter for name, parameter in model.named_parameters()}


def modules_of(model: nn.Module) -> dict[str, nn.Module]:
    """The modules of ``model`` by their native names, wrapped ones rather than their wrappers."""
    return {native(f'{name}.').rstrip('.'): module for name, module in model.named_modules()}


def state_dict_names(named: Mapping[str, object]) -> dict[str, str]:
    """From native names to those that ``load_state_dict`` takes for what ``named`` has."""
    return {native(name): NOT_IN_STATE_DICTS.sub('', name) for name in named}
