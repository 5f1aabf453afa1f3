"""The configs of the project, each read and counted once for all tests."""

import copy
from functools import cache

from mmengine.config import Config

from swin_backbone.engine.config import load_config
from swin_backbone.reports.model_zoo import Entry, find_configs, make_entry
from tests.conftest import REPOSITORY

PATHS = {path.stem: path for path in find_configs(REPOSITORY / 'configs')}


@cache
def _read(name: str) -> Config:
    return load_config(str(PATHS[name]), None)


def config(name: str) -> Config:
    """A config to change at will."""
    return copy.deepcopy(_read(name))


@cache
def entry(name: str) -> Entry:
    """A config with its cost; making all of these builds every network."""
    return make_entry(PATHS[name], config=_read(name))
