"""The backbone builds from both toolkits' registries by its scoped name, in a new process."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.runner import CheckpointLoader, checkpoint

import swin_backbone.registry  # noqa: F401

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


class Payload:
    """An object whose unpickling creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize('scheme', ['', 'https://', 'torchvision://'])
def test_mmengines_loader_runs_no_code_of_a_file(scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    file, other, created = tmp_path / 'model.pth', tmp_path / 'other.pth', tmp_path / 'created'
    urls = {path.name: path.as_uri() for path in (file, other)}  # mmengine's downloader opens any kind of URL
    monkeypatch.setattr(checkpoint, 'get_torchvision_models', lambda: urls)

    def load(path: Path) -> Any:
        locations = {'': str(path), 'https://': urls[path.name], 'torchvision://': f'torchvision://{path.name}'}
        return CheckpointLoader._schemes[scheme](locations[scheme], map_location='cpu')

    torch.save(dict(state_dict=dict(x=torch.ones(2)), payload=Payload(created)), file)
    with pytest.raises(pickle.UnpicklingError):
        load(file)
    assert not created.exists()

    torch.save(dict(state_dict=dict(x=torch.ones(2))), other)
    assert load(other)['state_dict']['x'].sum() == 2
