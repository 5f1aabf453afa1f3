"""The backbone builds from both toolkits' registries by its scoped name, in a new process."""

import subprocess
import sys

import pytest

BUILD = """
import swin_backbone.mmcv_ops  # provides mmcv's operators if mmcv has none, and registers nothing
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from {toolkit}.registry import MODELS
init_default_scope('{toolkit}')
model = MODELS.build(ConfigDict(type='swin_backbone.SwinTransformer', variant='tiny', out_indices=(1, 2)))
assert type(model).__module__ == 'swin_backbone.backbones.swin' and model.num_features == (96, 192, 384)
stock = MODELS.get('SwinTransformer')
assert stock is not type(model), 'the toolkit keeps its own class under the plain name'
"""


@pytest.mark.parametrize('toolkit', ['mmdet', 'mmseg'])
def test_backbone_builds_by_its_scoped_name(toolkit: str) -> None:
    code = BUILD.format(toolkit=toolkit)
    result = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_extensions_are_registered_after_their_toolkit_is_imported() -> None:
    code = (
        "from swin_backbone.registry import MODELS\n"
        "assert MODELS.get('RepPointsV2Head') is None\n"
        "import mmdet.registry\n"
        "assert MODELS.get('RepPointsV2Head') is not None\n"
    )  # fmt: skip
    result = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
