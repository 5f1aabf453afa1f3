"""The configs of the project, each read and counted once for all tests."""

import copy
from functools import cache

from mmengine.config import Config
from mmengine.config import utils as mmengine_utils

from swin_backbone.engine.config import load_config
from swin_backbone.model_zoo.page import Entry, find_configs, make_entry

# For every `_base_ = 'mmdet::...'` mmengine parses the 100 metafiles of the toolkit again, half a second for a config.
mmengine_utils.load = cache(mmengine_utils.load)

PATHS = {path.stem: path for path in find_configs()}

MODERN = ('mask2former', 'dino', 'rtmdet')
"""Beginnings of the names of configs with the toolkits' recipes; test_modern_configs.py compares them."""
V2_SYSTEMS = ('htc_swinv2', 'upernet_swinv2_l', 'upernet_swinv2_g')


@cache
def _read(name: str) -> Config:
    return load_config(str(PATHS[name]), None)


def config(name: str) -> Config:
    """A config to change at will."""
    return copy.deepcopy(_read(name))


@cache
def entry(name: str) -> Entry:
    """A config with its cost; the entries of all configs build every network."""
    return make_entry(PATHS[name], config=_read(name))
