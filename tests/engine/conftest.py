"""Fixture that skips slow parts of the Runner that do not affect results."""

from collections.abc import Iterator
from unittest.mock import patch

import pytest
from mmengine.config import config
from mmengine.runner import runner


@pytest.fixture(autouse=True, scope='package')
def brief() -> Iterator[None]:
    """Skip collecting compiler versions and formatting config files."""
    with (
        patch.object(runner, 'collect_env', dict),
        patch.object(config, 'FormatCode', lambda text, **options: (text, True), create=True),  # the forks have none
    ):
        yield
