"""Fixtures shared by all tests."""

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch

with suppress(ImportError):
    import submitit  # noqa: F401  its import closes all log files of the process, so it is imported before there are any

import swin_backbone.mmcv_ops  # noqa: F401  provides mmcv's operators

REPOSITORY = Path(__file__).resolve().parent.parent


def external(variable: str, folder: str) -> Path:
    """Return the folder in ``variable``, or one next to the checkout; skip the test if it is missing."""
    path = Path(os.environ.get(variable, REPOSITORY.parent / 'shared' / folder))
    if not path.is_dir():
        pytest.skip(f'{path} does not exist: set {variable} to a folder with the real {folder}')
    return path


@pytest.fixture
def data_dir() -> Path:
    """Folder of real photos with annotations (``coco100/``, ``ade100/``)."""
    return external('SWIN_BACKBONE_DATA', 'data')


@pytest.fixture(scope='session')
def photographs() -> Path | None:
    """The same folder, or None if it is missing, for tests that can use generated images instead."""
    path = Path(os.environ.get('SWIN_BACKBONE_DATA', REPOSITORY.parent / 'shared' / 'data'))
    return path if path.is_dir() else None


@pytest.fixture
def fixtures_dir() -> Path:
    """Folder of checkpoints of other implementations with their outputs (``dialects/``)."""
    return external('SWIN_BACKBONE_FIXTURES', 'fixtures')


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Seed every test equally."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def own_registry_scope() -> Iterator[None]:
    """Reset the registry scope, which a Runner sets for the process, after every test."""
    yield
    if 'mmengine.registry' in sys.modules:
        sys.modules['mmengine.registry'].DefaultScope._instance_dict.clear()


@pytest.fixture(scope='session', autouse=True)
def fast_subprocesses() -> Iterator[None]:
    """Give subprocesses one thread, and hide Transformers, whose import takes longer than most commands."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('PYTHONPATH', str(Path(__file__).parent / 'without_transformers'), prepend=os.pathsep)
        patch.setenv('OMP_NUM_THREADS', '1')
        yield


@pytest.fixture(scope='session', autouse=True)
def few_threads() -> None:
    """Use one thread: the maps of the tests are small, and more threads are slow on a busy machine."""
    torch.set_num_threads(1)
