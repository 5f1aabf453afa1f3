"""The extra layer of HTC++, and InstaBoost, which its recipe needs."""

import random
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import numpy as np
import pytest
import torch

pytest.importorskip('mmdet')

from mmdet.registry import MODELS, TRANSFORMS
from mmengine.registry import DefaultScope
from pycocotools import mask as coco_mask

from swin_backbone.errors import InputError
from swin_backbone.openmmlab.detection import instaboost
from swin_backbone.openmmlab.detection.global_block import GlobalBlockNeck
from tests.helpers import randomize, relative_error


def maps(channels: int = 8) -> list[torch.Tensor]:
    return [torch.randn(2, 4, 12, 16), torch.randn(2, channels, 3, 4)]


def test_neck_changes_only_the_last_map() -> None:
    inputs = maps()
    neck = randomize(GlobalBlockNeck(8, num_heads=2)).eval()
    first, last = neck(inputs)
    assert first is inputs[0]
    assert last.shape == inputs[1].shape
    assert (last != inputs[1]).any()


def test_attention_is_global_and_permutation_equivariant() -> None:
    neck = randomize(GlobalBlockNeck(8, num_heads=2)).eval()
    last = torch.randn(1, 8, 3, 4, requires_grad=True)
    out = neck([last])[0]
    out[0, :, 0, 0].sum().backward()
    assert last.grad[0].abs().sum(dim=0).all()
    order = torch.randperm(12)
    shuffled = last.detach().flatten(2)[..., order].reshape(1, 8, 3, 4)
    expected = out.detach().flatten(2)[..., order].reshape(1, 8, 3, 4)
    assert relative_error(neck([shuffled])[0], expected) < 1e-5


def test_width_reduces_the_channels() -> None:
    neck = GlobalBlockNeck(8, num_heads=2, width=4, reduction_groups=2)
    assert neck(maps())[1].shape == (2, 4, 3, 4)
    assert neck.reduction.weight.shape == (4, 4, 1, 1)


def test_neck_can_be_combined_with_fpn() -> None:
    fpn = dict(type='FPN', in_channels=[4, 8], out_channels=4, num_outs=3)
    with DefaultScope.overwrite_default_scope('mmdet'):
        neck = MODELS.build([dict(type='swin_backbone.GlobalBlockNeck', in_channels=8, num_heads=2), fpn])
    neck.init_weights()
    outs = neck(maps())
    assert [tuple(out.shape) for out in outs] == [(2, 4, 12, 16), (2, 4, 3, 4), (2, 4, 2, 2)]
    sum(out.square().sum() for out in outs).backward()
    assert all(p.grad is not None for p in neck.parameters())


def test_instaboost_without_its_package_raises_input_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instaboost, 'PACKAGE', 'a_package_that_nobody_has')
    with pytest.raises(InputError, match=r'pip install a_package_that_nobody_has.*config without it'):
        TRANSFORMS.build(dict(type='swin_backbone.InstaBoost'))


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a stub of the package that moves nothing and makes images brighter."""
    module = ModuleType('instaboostfast')
    module.__spec__ = ModuleSpec('instaboostfast', None)
    module.InstaBoostConfig = lambda *options: None
    module.get_new_data = lambda annotations, image, config, background: (annotations, image + 1)
    monkeypatch.setitem(sys.modules, 'instaboostfast', module)


def test_instaboost_passes_uncompressed_rle(package: None) -> None:
    mask = np.zeros((6, 8), dtype=np.uint8)
    mask[1:4, 2:5] = 1
    plain = dict(size=[6, 8], counts=[13, 3, 3, 3, 3, 3, 20])
    polygon = [[2.0, 1.0, 5.0, 1.0, 5.0, 4.0, 2.0, 4.0]]
    masks = [coco_mask.encode(np.asfortranarray(mask)), polygon, plain]
    instances = [dict(bbox=[2, 1, 5, 4], bbox_label=0, mask=mask, ignore_flag=0) for mask in masks]
    boost = TRANSFORMS.build(dict(type='swin_backbone.InstaBoost', aug_ratio=1))
    results = boost(dict(img=np.zeros((6, 8, 3), np.uint8), instances=instances))
    assert [instance['mask'] for instance in results['instances']] == [plain] * 3
    assert results['img'].all()


def test_instaboost_with_hflag_raises_input_error(package: None) -> None:
    with pytest.raises(InputError, match='hflag'):
        TRANSFORMS.build(dict(type='swin_backbone.InstaBoost', hflag=True))


def test_instaboost_moves_objects_with_its_package() -> None:
    pytest.importorskip('instaboostfast')
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (96, 128, 3), dtype=np.uint8)
    masks = np.zeros((2, 96, 128), dtype=np.uint8)
    masks[0, 20:50, 20:60] = masks[1, 40:80, 70:110] = 1
    instances = [
        dict(bbox=box, bbox_label=label, mask=coco_mask.encode(np.asfortranarray(mask)), ignore_flag=0)
        for label, (box, mask) in enumerate(zip([[20, 20, 60, 50], [70, 40, 110, 80]], masks, strict=True))
    ]
    boost = TRANSFORMS.build(dict(type='swin_backbone.InstaBoost', aug_ratio=1))
    np.random.seed(0)
    random.seed(0)
    results = boost(dict(img=image.copy(), instances=instances))
    assert results['img'].shape == image.shape and (results['img'] != image).any()
    assert [instance['bbox_label'] for instance in results['instances']] == [0, 1]
    for instance, mask in zip(results['instances'], masks, strict=True):
        moved = instance['mask']
        area = coco_mask.area(coco_mask.frPyObjects(moved, *moved['size']))
        assert 0.5 < area / mask.sum() < 2.0
        x1, y1, x2, y2 = instance['bbox']
        assert 0 <= x1 < x2 <= 128 and 0 <= y1 < y2 <= 96
