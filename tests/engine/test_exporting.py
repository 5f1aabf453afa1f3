"""Whole segmenters as one graph."""

import warnings
from typing import Any

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from swin_backbone.cli import export
from swin_backbone.engine.config import load_config
from swin_backbone.engine.exporting import AdaptivePooling, Segmenter, build_exportable
from swin_backbone.errors import InputError
from swin_backbone.export import relative_error


@pytest.mark.parametrize('size', [(5, 7), (1, 1), (13, 2), (24, 24)])
@pytest.mark.parametrize('bins', [1, 2, 3, 6, (2, 5)])
def test_pooling_by_products_equals_pooling(size: tuple[int, int], bins: Any) -> None:
    x = torch.randn(2, 3, *size)
    torch.testing.assert_close(AdaptivePooling(bins)(x), nn.AdaptiveAvgPool2d(bins)(x), atol=1e-6, rtol=1e-5)


def test_a_segmenter_predicts_as_in_the_toolkit_at_other_sizes() -> None:
    from mmseg.structures import SegDataSample

    torch.manual_seed(0)
    config = load_config('upernet_swin_demo', ['model.backbone.depths=[1,1,1,2]', 'model.decode_head.channels=16'])
    with DefaultScope.overwrite_default_scope('mmseg'):
        model: Any = MODELS.build(config.model).eval()
        image = torch.randint(0, 256, (1, 3, 50, 75)).float()
        data = model.data_preprocessor(dict(inputs=[image[0].flip(0)], data_samples=[SegDataSample()]))
        sample = data['data_samples'][0]
        sample.set_metainfo(dict(ori_shape=(50, 75), img_shape=(50, 75), pad_shape=(50, 75)))
        with torch.no_grad():
            # The toolkit pads the image; the graph reads it as it is.
            expected = model.predict(data['inputs'][..., :50, :75], [sample])[0]
    segmenter = Segmenter(model)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        traced = torch.jit.trace(segmenter, torch.rand(2, 3, 64, 96) * 255, check_trace=False)
    for run in (segmenter, traced):
        with torch.no_grad():
            logits, labels = run(image)
        resized = nn.functional.interpolate(logits, (50, 75), mode='bilinear', align_corners=False)
        assert relative_error(resized[0], expected.seg_logits.data) < 1e-5
        assert torch.equal(labels, expected.pred_sem_seg.data)


def test_a_detector_is_exported_without_its_heads(tmp_path: Any) -> None:
    config = load_config('cascade_swin_demo', None)
    with DefaultScope.overwrite_default_scope('mmdet'):
        state = MODELS.build(config.model).state_dict()
    path = tmp_path / 'model.pth'
    torch.save({'state_dict': state}, path)
    with pytest.raises(InputError, match='add --backbone'):
        build_exportable(load_config('cascade_swin_demo', None), path, backbone_only=False)
    backbone = build_exportable(load_config('cascade_swin_demo', None), path, backbone_only=True)
    assert len(backbone(torch.randn(1, 3, 40, 60))) == 4


def test_a_file_of_another_kind_is_refused(tmp_path: Any) -> None:
    with pytest.raises(InputError, match=r'must end in \.onnx or \.pt2'):
        export.main(['upernet_swin_demo', 'weights.pth', str(tmp_path / 'model.trt')])
