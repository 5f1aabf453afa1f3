"""Predictions of exported files, compared with those of their checkpoints."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from swin_backbone import InputError
from swin_backbone.engine.config import load_config
from swin_backbone.engine.exporting import build_exportable
from swin_backbone.engine.predict import Predictor

onnxruntime = pytest.importorskip('onnxruntime')

OPTIONS = {
    'cascade_swin_demo': ['model.backbone.depths=[1,1,1,1]', 'model.test_cfg.rcnn.score_thr=0.02'],
    'upernet_swin_demo': ['model.backbone.depths=[1,1,1,1]', 'model.decode_head.channels=16'],
}


def untrained(name: str, path: Path) -> None:
    torch.manual_seed(0)
    config = load_config(name, OPTIONS[name])
    with DefaultScope.overwrite_default_scope(config.default_scope):
        model = MODELS.build(config.model)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data.add_(0.02 * torch.randn_like(parameter))
    classes = ['circle', 'square', 'triangle', 'star', 'ring', 'cross']
    count = config.model.decode_head.num_classes if 'decode_head' in config.model else 6
    meta = dict(dataset_meta=dict(classes=(classes * 10)[:count]))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)


class Session:
    """Stand-in for an onnxruntime session that runs the exported module in PyTorch."""

    module: Any = None

    def __init__(self, file: str, providers: Any) -> None:
        del file, providers

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(name=name) for name in self.module.output_names]

    def get_modelmeta(self) -> Any:
        return SimpleNamespace(custom_metadata_map=self.module.metadata)

    def run(self, names: list[str], inputs: dict[str, Any]) -> list[Any]:
        assert names == list(self.module.output_names)
        with torch.no_grad():
            return [output.numpy() for output in self.module(torch.from_numpy(inputs['image']))]


@pytest.mark.parametrize('name', ['cascade_swin_demo', 'upernet_swin_demo'])
def test_predictions_of_an_exported_file_equal_its_checkpoint(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / 'model.pth'
    untrained(name, path)
    monkeypatch.setattr(Session, 'module', build_exportable(load_config(name, OPTIONS[name]), path, 'model').eval())
    monkeypatch.setattr(onnxruntime, 'InferenceSession', Session)
    (tmp_path / 'model.onnx').touch()
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    expected, found = (
        Predictor(load_config(name, OPTIONS[name]), tmp_path / f'model.{kind}')(image) for kind in ('pth', 'onnx')
    )
    assert found['names'] == expected['names']
    if 'label_map' in expected:
        assert (found['label_map'] == expected['label_map']).mean() > 0.999
        return
    assert len(expected['boxes']) > 5
    np.testing.assert_allclose(found['scores'], expected['scores'], atol=1e-5)
    np.testing.assert_allclose(found['boxes'], expected['boxes'], atol=1e-2)
    assert found['labels'].tolist() == expected['labels'].tolist()
    assert (found['masks'] == expected['masks']).mean() > 0.999


def test_files_that_are_no_whole_model_raise_input_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / 'model.onnx'
    file.write_bytes(b'no model')
    with pytest.raises(InputError, match='is not an ONNX file that onnxruntime can load'):
        Predictor('upernet_swin_demo', file)
    monkeypatch.setattr(Session, 'module', SimpleNamespace(output_names=('stride4', 'stride8'), metadata={}))
    monkeypatch.setattr(onnxruntime, 'InferenceSession', Session)
    with pytest.raises(InputError, match='without --backbone and --raw'):
        Predictor('upernet_swin_demo', file)
    monkeypatch.setattr(Session, 'module', SimpleNamespace(output_names=('logits', 'labels'), metadata={}))
    with pytest.raises(InputError, match='need a checkpoint'):
        Predictor('upernet_swin_demo', file, bf16=True)
