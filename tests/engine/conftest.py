"""Runs of the tests leave out what takes longest in them and changes nothing."""

from collections.abc import Iterator
from unittest.mock import patch

import pytest
from mmengine.config import config
from mmengine.runner import runner


@pytest.fixture(autouse=True, scope='package')
def brief() -> Iterator[None]:
    """Do not ask compilers for their versions, and do not lay out the text of configs."""
    with (
        patch.object(runner, 'collect_env', dict),
        patch.object(config, 'FormatCode', lambda text, **options: (text, True), create=True),  # the forks have none
    ):
        yield
