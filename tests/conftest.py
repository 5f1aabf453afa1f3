"""Fixtures shared by all tests."""

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch

with suppress(ImportError):
    import submitit  # noqa: F401  its import closes every log file of the process: now there is none

import swin_backbone.mmcv_ops  # noqa: F401  serves mmcv's operators

REPOSITORY = Path(__file__).resolve().parent.parent


def external(variable: str, folder: str) -> Path:
    """A folder beside the checkout, or where ``variable`` points; the test is skipped where it is missing."""
    path = Path(os.environ.get(variable, REPOSITORY.parent / 'shared' / folder))
    if not path.is_dir():
        pytest.skip(f'{path} is not there: set {variable} to a folder with the real {folder}')
    return path


@pytest.fixture
def data_dir() -> Path:
    """Real photographs with annotations (``coco100/``, ``ade100/``)."""
    return external('SWIN_BACKBONE_DATA', 'data')


@pytest.fixture(scope='session')
def photographs() -> Path | None:
    """The same folder, or None where it is missing: for tests that can take generated images instead."""
    path = Path(os.environ.get('SWIN_BACKBONE_DATA', REPOSITORY.parent / 'shared' / 'data'))
    return path if path.is_dir() else None


@pytest.fixture
def fixtures_dir() -> Path:
    """Checkpoints of other implementations with their true outputs (``dialects/``)."""
    return external('SWIN_BACKBONE_FIXTURES', 'fixtures')


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random state."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def own_registry_scope() -> Iterator[None]:
    """A Runner sets the registry scope of the process; no test inherits that of another."""
    yield
    if 'mmengine.registry' in sys.modules:
        sys.modules['mmengine.registry'].DefaultScope._instance_dict.clear()


@pytest.fixture(scope='session', autouse=True)
def commands_without_transformers() -> Iterator[None]:
    """The processes that tests start leave out Transformers, whose import takes longer than most commands."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('PYTHONPATH', str(Path(__file__).parent / 'without_transformers'), prepend=os.pathsep)
        yield


@pytest.fixture(scope='session', autouse=True)
def few_threads() -> None:
    """The maps of the tests are too small for more threads, which only wait for each other on a busy machine."""
    torch.set_num_threads(1)
