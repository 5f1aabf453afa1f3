"""Whole models of the original detection and segmentation code: strict loading and equal predictions.

``fixtures/original_models.npz`` was written with that code (with MMDetection 2.11 and MMSegmentation 0.11). It contains
the names and shapes of the state dicts of four narrow models, and their predictions for :func:`image` with the weights
of :func:`value`.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.runner import CheckpointLoader
from torch import nn

from swin_backbone.engine.checkpoints import load_whole, read_whole, reading_safely
from swin_backbone.engine.config import load_config
from swin_backbone.errors import InputError
from tests.checkpoint.layouts import index
from tests.conftest import REPOSITORY
from tests.demo_models import build_model
from tests.helpers import TINY

DETECTORS = ('mask_rcnn_swin_t_1x', 'cascade_swin_t_3x', 'reppoints_v2_swin_t_3x')
SEGMENTER = 'upernet_swin_t_160k'
HEIGHT, WIDTH = 96, 128


@pytest.fixture(scope='module')
def original() -> dict[str, np.ndarray]:
    with np.load(REPOSITORY / 'tests/fixtures/original_models.npz') as content:
        return dict(content)


def value(name: str, shape: tuple[int, ...], random: np.random.RandomState) -> np.ndarray:
    """Return weights with which every layer affects the output; ``RandomState`` is stable across numpy versions."""
    if name.endswith('num_batches_tracked'):
        return np.zeros(shape, np.int64)
    noise = random.standard_normal(shape).astype(np.float32)
    if name.endswith('running_var'):
        return np.abs(noise) + np.float32(0.5)
    if name.endswith('.weights'):
        return np.abs(noise) + np.float32(0.1)
    if len(shape) == 1:
        return np.float32(0.1) * noise + np.float32(name.endswith('weight'))
    return noise * np.float32(max(0.02, np.prod(shape[1:]) ** -0.5))


def image() -> torch.Tensor:
    noise = np.random.RandomState(1).standard_normal((1, 3, HEIGHT, WIDTH))
    return torch.from_numpy(noise.astype(np.float32))


def write_original(original: dict[str, np.ndarray], name: str, path: Path) -> Path:
    """Write a checkpoint like the original code."""
    random, state = np.random.RandomState(0), {}
    for key, shape in sorted(json.loads(original[f'{name}.shapes'].tobytes()).items()):
        if key.endswith('relative_position_index'):
            state[key] = index(7)
        else:
            state[key] = torch.from_numpy(np.asarray(value(key, tuple(shape), random)))
    torch.save({'meta': {'CLASSES': ('person',), 'epoch': 36}, 'state_dict': state, 'optimizer': {}}, path)
    return path


def narrow(name: str) -> Config:
    """Return the config of an original model with the widths of the fixture."""
    config = load_config(name)
    model = config.model
    model.backbone = dict(type='swin_backbone.SwinTransformer', **TINY)
    if name == SEGMENTER:
        model.decode_head.update(in_channels=[16, 32, 64, 128], channels=32)
        model.auxiliary_head.update(in_channels=64, channels=16)
    elif name == 'reppoints_v2_swin_t_3x':
        model.backbone.out_indices = (1, 2, 3)
        model.neck.update(in_channels=[32, 64, 128], out_channels=64)
        model.bbox_head.update(in_channels=64, feat_channels=64, point_feat_channels=64, corner_dim=64)
        # The original code kept boxes without width or height, which random weights produce.
        model.test_cfg.update(score_thr=0.0, min_bbox_size=-1)
    else:
        model.neck.update(in_channels=[16, 32, 64, 128], out_channels=32)
        model.rpn_head.update(in_channels=32, feat_channels=32)
        heads = model.roi_head
        for extractor in (heads.bbox_roi_extractor, heads.mask_roi_extractor):
            extractor.out_channels = 32
        for head in heads.bbox_head if isinstance(heads.bbox_head, list) else [heads.bbox_head]:
            head.update(in_channels=32, fc_out_channels=64)
            if 'conv_out_channels' in head:
                head.conv_out_channels = 32
        for head in heads.mask_head if isinstance(heads.mask_head, list) else [heads.mask_head]:
            head.update(in_channels=32, conv_out_channels=32)
        model.test_cfg.rpn.update(nms_pre=50, max_per_img=50, min_bbox_size=-1)
        model.test_cfg.rcnn.score_thr = 0.0
    return config


@cache
def model_of(name: str) -> Any:
    """Build a model once; loading replaces all of its weights."""
    return build_model(narrow(name), seed=7)


def by_class_and_score(boxes: np.ndarray) -> np.ndarray:
    """Return an order of detections ``[N, 6]`` (box, score, class) that is stable under rounding."""
    return np.lexsort((-np.round(boxes[:, 4], 4), boxes[:, 5]))


@torch.no_grad()
def detect(model: nn.Module) -> Any:
    size = dict(img_shape=(HEIGHT, WIDTH), ori_shape=(HEIGHT, WIDTH), batch_input_shape=(HEIGHT, WIDTH))
    sample = DetDataSample(metainfo=dict(size, pad_shape=(HEIGHT, WIDTH), scale_factor=(1.0, 1.0)))
    return model.predict(image(), [sample], rescale=True)[0].pred_instances


@pytest.mark.parametrize('name', DETECTORS)
def test_released_detectors_equal_the_original_code(name: str, original: dict[str, np.ndarray], tmp_path: Path) -> None:
    model = model_of(name)
    load_whole(model, write_original(original, name, tmp_path / 'model.pth'))
    found = detect(model)
    boxes = torch.cat([found.bboxes, found.scores[:, None], found.labels[:, None]], 1).numpy()
    ours, expected = by_class_and_score(boxes), by_class_and_score(original[f'{name}.boxes'])
    difference = np.abs(boxes[ours] - original[f'{name}.boxes'][expected]).max(axis=0)
    assert difference[:4].max() < 2e-3 and difference[4] < 1e-5 and difference[5] == 0, difference
    if f'{name}.areas' in original:
        areas = found.masks.flatten(1).sum(1).numpy()[ours]
        assert np.abs(areas - original[f'{name}.areas'][expected]).max() <= 8


def test_released_segmenter_equals_the_original_code(original: dict[str, np.ndarray], tmp_path: Path) -> None:
    model = model_of(SEGMENTER)
    load_whole(model, write_original(original, SEGMENTER, tmp_path / 'model.pth'))
    with torch.no_grad():
        logits = model.encode_decode(image(), [dict(img_shape=(HEIGHT, WIDTH), ori_shape=(HEIGHT, WIDTH))])
    difference = np.abs(logits[0, ::10, ::8, ::8].numpy() - original[f'{SEGMENTER}.logits']).max()
    assert difference < 2e-5, difference


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            {'rpn_head.rpn_cls.bias': None},
            r'1 of the \d+ parameters of the model are missing, the first is rpn_head\.rpn_cls\.bias',
        ),
        (
            {'rpn_head.conv.bias': 'rpn_head.rpn_cls.bias'},
            r'1 weights .*are unexpected, the first is rpn_head\.conv\.bias',
        ),
        (
            {'roi_head.bbox_head.3.fc_cls.bias': 'rpn_head.rpn_cls.bias'},
            r'1 weights of the file are unexpected, the first is roi_head\.bbox_head\.3\.fc_cls\.bias',
        ),
        (
            {'bbox_head.0.fc_cls.weight': 'rpn_head.rpn_cls.bias'},
            'written by MMDetection 1, .* background as its first',
        ),
    ],
)
def test_missing_or_unexpected_weights_raise_input_error(
    change: dict[str, str | None], message: str, original: dict[str, np.ndarray], tmp_path: Path
) -> None:
    path = write_original(original, 'cascade_swin_t_3x', tmp_path / 'model.pth')
    content = torch.load(path)
    for name, source in change.items():
        if source is None:
            del content['state_dict'][name]
        else:
            content['state_dict'][name] = content['state_dict'][source]
    torch.save(content, path)
    with pytest.raises(InputError, match=message) as error:
        load_whole(model_of('cascade_swin_t_3x'), path)
    assert '\n' not in str(error.value)


def test_parts_that_a_model_does_not_have_are_logged(
    original: dict[str, np.ndarray], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = narrow('mask_rcnn_swin_t_1x')
    config.model.roi_head.mask_head = config.model.roi_head.mask_roi_extractor = None
    load_whole(build_model(config), write_original(original, 'mask_rcnn_swin_t_1x', tmp_path / 'model.pth'))
    assert caplog.messages[-1].endswith('the model in this config has no such part: roi_head.mask_head')


def test_upernet_of_transformers_equals_the_mmseg_model(tmp_path: Path) -> None:
    transformers = pytest.importorskip('transformers')
    backbone = transformers.SwinConfig(
        embed_dim=16,
        depths=[2, 2, 2, 2],
        num_heads=[1, 2, 4, 8],
        out_features=['stage1', 'stage2', 'stage3', 'stage4'],
    )
    config = transformers.UperNetConfig(
        backbone_config=backbone, hidden_size=32, auxiliary_channels=16, auxiliary_in_channels=64, num_labels=150
    )
    peer = transformers.UperNetForSemanticSegmentation(config).eval()
    random = np.random.RandomState(0)
    for name, tensor in sorted(peer.state_dict().items()):
        if tensor.is_floating_point():
            tensor.copy_(torch.from_numpy(np.asarray(value(name, tuple(tensor.shape), random))))
    peer.save_pretrained(tmp_path)
    model = model_of(SEGMENTER)
    with reading_safely():  # as when training starts from it
        started = CheckpointLoader.load_checkpoint(str(tmp_path))
    assert 'decode_head.conv_seg.weight' in started and 'auxiliary_head.convs.0.bn.running_var' in started
    load_whole(model, tmp_path)
    with torch.no_grad():
        ours = model.encode_decode(image(), [dict(img_shape=(HEIGHT, WIDTH), ori_shape=(HEIGHT, WIDTH))])
        expected = peer(image()).logits
    assert (ours - expected).abs().max() < 2e-5, (ours - expected).abs().max()


def test_read_whole_keeps_other_content(original: dict[str, np.ndarray], tmp_path: Path) -> None:
    content = read_whole(write_original(original, SEGMENTER, tmp_path / 'model.pth'))
    assert content['meta']['epoch'] == 36 and 'decode_head.conv_seg.weight' in content['state_dict']
