"""A data set in COCO's layout, and a stub of Detectron2 if it is not installed."""

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from swin_backbone.datasets.shapes import ShapesSpec, write_shapes
from tests.adapters import detectron2_stub
from tests.conftest import external


@pytest.fixture(scope='package')
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of photos, or of generated images if there are none."""
    try:
        return external('SWIN_BACKBONE_DATA', 'data') / 'coco100'
    except pytest.skip.Exception:
        root = tmp_path_factory.mktemp('coco')
        write_shapes(root, ShapesSpec(train_count=8, val_count=1))
        return root


@pytest.fixture(scope='package', autouse=True)
def detectron2() -> Iterator[None]:
    """Install the stub of Detectron2 if it is not installed."""
    if find_spec('detectron2') is not None:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        for name, module in detectron2_stub.modules().items():
            patch.setitem(sys.modules, name, module)
        patch.delitem(sys.modules, 'swin_backbone.adapters.detectron2', raising=False)
        yield
