"""The project's configs, read and counted once for all tests."""

import copy
from functools import cache

from mmengine.config import Config

from swin_backbone.engine.config import load_config
from swin_backbone.model_zoo.page import Entry, find_configs, make_entry

PATHS = {path.stem: path for path in find_configs()}

MODERN = ('mask2former', 'dino', 'rtmdet')
"""Prefixes of the names of configs with the toolkits' recipes, which test_modern_configs.py compares."""
V2_SYSTEMS = ('htc_swinv2', 'upernet_swinv2_l', 'upernet_swinv2_g')


@cache
def _read(name: str) -> Config:
    return load_config(str(PATHS[name]), None)


def config(name: str) -> Config:
    """Return a copy of a config that may be modified."""
    return copy.deepcopy(_read(name))


@cache
def entry(name: str) -> Entry:
    """Return a config with its cost, which builds its network."""
    return make_entry(PATHS[name], config=_read(name))
