"""Whole segmenters and detectors as one exportable graph."""

import warnings
from typing import Any

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from swin_backbone.cli import export
from swin_backbone.engine.config import load_config
from swin_backbone.engine.exported_detector import Detector, RawDetector
from swin_backbone.engine.exported_nms import ONNX_FUNCTIONS, suppress, top_scores
from swin_backbone.engine.exporting import AdaptivePooling, Segmenter, build_exportable
from swin_backbone.errors import InputError
from swin_backbone.export import compare_onnx, export_onnx, relative_error


@pytest.mark.parametrize('size', [(5, 7), (1, 1), (13, 2), (24, 24)])
@pytest.mark.parametrize('bins', [1, 2, 3, 6, (2, 5)])
def test_adaptive_pooling_equals_pytorch(size: tuple[int, int], bins: Any) -> None:
    x = torch.randn(2, 3, *size)
    torch.testing.assert_close(AdaptivePooling(bins)(x), nn.AdaptiveAvgPool2d(bins)(x), atol=1e-6, rtol=1e-5)


def test_an_exported_segmenter_equals_the_toolkit_at_other_sizes() -> None:
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
            # The toolkit pads the image, the graph does not.
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


def build(name: str, options: list[str]) -> Any:
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model: Any = MODELS.build(load_config(name, options).model).eval()
    for parameter in model.parameters():  # untrained heads give all boxes the same score
        if parameter.ndim > 1:
            parameter.data.add_(0.02 * torch.randn_like(parameter))
    return model


SMALL = [
    'model.backbone.variant=None',
    'model.backbone.embed_dim=16',
    'model.backbone.depths=[1,1,1,1]',
    'model.backbone.num_heads=[1,2,4,8]',
    'model.backbone.window_size=4',
    'model.backbone.init_cfg=None',
]
ATSS = [
    *SMALL,
    'model.neck.in_channels=[32,64,128]',
    'model.neck.out_channels=32',
    'model.bbox_head.in_channels=32',
    'model.bbox_head.feat_channels=32',
    'model.bbox_head.stacked_convs=1',
    'model.bbox_head.num_classes=5',
    'model.bbox_head.norm_cfg.type=GN',
    'model.bbox_head.norm_cfg.num_groups=8',
    'model.test_cfg.score_thr=0.0',
]
CASCADE = ['model.backbone.depths=[1,1,1,1]', 'model.test_cfg.rcnn.score_thr=0.0']
MASK_RCNN = [  # boxes per class
    'model.backbone.init_cfg=None',
    'model.backbone.depths=[1,1,1,1]',
    'model.test_cfg.rpn.max_per_img=50',
    'model.test_cfg.rcnn.score_thr=0.0',
]


@pytest.mark.parametrize(
    ('name', 'options'),
    [('atss_swin_t_3x', ATSS), ('cascade_swin_demo', CASCADE), ('mask_rcnn_mixer_t_3x', MASK_RCNN)],
)
def test_an_exported_detector_equals_the_toolkit(name: str, options: list[str]) -> None:
    from mmdet.structures import DetDataSample

    model = build(name, options)
    images = torch.randint(0, 256, (2, 3, 96, 128)).float()
    size = dict(img_shape=(96, 128), ori_shape=(96, 128), pad_shape=(96, 128), batch_input_shape=(96, 128))
    samples = [DetDataSample(metainfo=dict(size, scale_factor=(1.0, 1.0))) for _ in images]
    with torch.no_grad():
        found = Detector(model)(images)
        data = model.data_preprocessor(dict(inputs=[image.flip(0) for image in images], data_samples=samples))
        outputs = model.predict(data['inputs'], data['data_samples'], rescale=False)
    for i, output in enumerate(outputs):
        expected = output.pred_instances
        count = len(expected)
        assert count == (found[1][i] > 0).sum() > 50
        torch.testing.assert_close(found[1][i][:count], expected.scores, atol=1e-6, rtol=0)
        # The order of objects with equal scores may differ.
        pairs = (found[0][i][:count, None] - expected.bboxes).abs().amax(2)
        pairs += 1000 * (found[2][i][:count, None] != expected.labels)
        assert pairs.min(1).values.max() < 1e-2
        assert pairs.min(0).values.max() < 1e-2


def test_raw_detector_returns_the_head_outputs() -> None:
    model = build('atss_swin_t_3x', ATSS)
    image = 255 * torch.rand(1, 3, 70, 90)
    raw = RawDetector(model)
    with torch.no_grad():
        outputs = raw(image)
        expected = model.bbox_head(model.extract_feat(raw.normalise(image)))
    for found, level in zip(outputs, [level for output in expected for level in output], strict=True):
        assert torch.equal(found, level)
    with pytest.raises(InputError, match='leave --raw out'):
        RawDetector(build('cascade_swin_demo', CASCADE))


def test_suppress_and_top_scores_return_a_fixed_number_of_objects() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]]]).repeat(2, 1, 1)
    scores = torch.tensor([[0.5, 0.6, 0.7], [0.9, 0.1, 0.3]])
    kept = suppress(boxes, scores, 0.5, 0.2)
    assert kept.tolist() == [[False, True, True], [True, False, True]]
    value, index = top_scores(scores * kept, 4)
    torch.testing.assert_close(value, torch.tensor([[0.7, 0.6, 0, -1], [0.9, 0.3, 0, -1]]))
    assert index[:, :2].tolist() == [[2, 1], [0, 2]]
    assert index[:, 3].tolist() == [0, 0]


class Suppressing(nn.Module):
    """Model that predicts a box for every pixel."""

    onnx_functions = ONNX_FUNCTIONS

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = self.conv(image).flatten(2).transpose(1, 2)
        scores = x[..., 0].sigmoid()
        corner = 4 * x[..., :2]
        kept = suppress(torch.cat([corner, corner + 3 + x[..., 1:].abs()], 2), scores, 0.3, 0.4)
        return kept, top_scores(scores * kept, 30)[0]


def test_suppression_in_onnx_equals_pytorch(tmp_path: Any) -> None:
    pytest.importorskip('onnxruntime')
    torch.manual_seed(0)
    model = Suppressing()
    errors = compare_onnx(model, export_onnx(model, tmp_path / 'x.onnx', (9, 12)), [(2, 9, 12), (1, 30, 7), (3, 2, 2)])
    assert max(errors.values()) < 1e-5, errors
    assert model(torch.randn(2, 3, 9, 12))[0].float().mean() < 0.5


def test_unsupported_heads_raise_input_error(tmp_path: Any) -> None:
    config = load_config('cascade_swin_demo', None)
    with DefaultScope.overwrite_default_scope('mmdet'):
        state = MODELS.build(config.model).state_dict()
    path = tmp_path / 'model.pth'
    torch.save({'state_dict': state}, path)
    soft = load_config('cascade_swin_demo', ['model.test_cfg.rcnn.nms.type=soft_nms'])
    with pytest.raises(InputError, match="'soft_nms' does not exist in ONNX"):
        build_exportable(soft, path, 'model')
    backbone = build_exportable(load_config('cascade_swin_demo', None), path, 'backbone')
    assert len(backbone(torch.randn(1, 3, 40, 60))) == 4
    with pytest.raises(InputError, match='Add --backbone'):
        Detector(build('reppoints_swin_t_3x', SMALL))


def test_an_unknown_file_suffix_raises_input_error(tmp_path: Any) -> None:
    with pytest.raises(InputError, match=r'must end in \.onnx or \.pt2'):
        export.main(['upernet_swin_demo', 'weights.pth', str(tmp_path / 'model.trt')])
