"""All adapters with a small backbone: maps, autocast, copies, freezing and weights."""

import copy
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from swin_backbone import InputError, SwinMixer, SwinTransformer, VideoSwinTransformer, load_pretrained
from tests.helpers import TINY, randomize, tiny_backbone

PACKAGES = {
    'torchvision': 'torchvision',
    'transformers': 'transformers.backbone_utils',
    'detectron2': 'torch',  # conftest.py has a stub
    'segmentation_models': 'segmentation_models_pytorch',
}


@pytest.fixture(params=PACKAGES)
def framework(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(PACKAGES[request.param])
    return request.param


def adapt(framework: str, backbone: Any) -> nn.Module:
    """Return the object that models of the framework use as a backbone."""
    if framework == 'torchvision':
        from swin_backbone.adapters.torchvision import SwinWithFPN

        return SwinWithFPN(backbone, out_channels=8)
    if framework == 'transformers':
        from transformers import AutoBackbone

        from swin_backbone.adapters.transformers import describe, put_backbone

        model = AutoBackbone.from_config(describe(backbone))
        put_backbone(model, backbone)
        return model
    if framework == 'detectron2':
        from swin_backbone.adapters.detectron2 import SwinBackbone

        return SwinBackbone(backbone)
    import segmentation_models_pytorch as smp

    from swin_backbone.adapters.segmentation_models import register_encoder

    return smp.Unet(register_encoder(backbone), encoder_weights=None).encoder


def maps_of(module: nn.Module, image: Tensor) -> list[Tensor]:
    """Return every map that the framework gets, without the images and maps of 0 channels."""
    found = module(image)
    found = getattr(found, 'feature_maps', found)
    values = found.values() if isinstance(found, dict) else found
    return [value for value in values if value is not image and value.shape[1]]


def inside(module: nn.Module) -> SwinTransformer:
    return next(part for part in module.modules() if isinstance(part, SwinTransformer))


def expected(module: nn.Module, backbone: SwinTransformer, image: Tensor) -> list[Tensor]:
    """Return the maps of the backbone, through the pyramid if the adapter has one."""
    maps = list(backbone(image))
    return list(module.fpn(dict(enumerate(maps))).values()) if hasattr(module, 'fpn') else maps


@torch.no_grad()
def assert_same(module: nn.Module, backbone: SwinTransformer, size: tuple[int, int] = (37, 51)) -> None:
    image = torch.randn(2, 3, *size)
    for ours, reference in zip(maps_of(module, image), expected(module, backbone, image), strict=True):
        torch.testing.assert_close(ours, reference)


@pytest.mark.parametrize('size', [(64, 96), (65, 47), (5, 3), (1, 1)], ids=str)
def test_adapters_return_the_maps_of_the_backbone_at_any_size(framework: str, size: tuple[int, int]) -> None:
    backbone = tiny_backbone().eval()
    assert_same(adapt(framework, copy.deepcopy(backbone)).eval(), backbone, size)


@pytest.mark.parametrize(
    'backbone',
    [
        SwinTransformer(**TINY, version=2, window_size=4),
        SwinTransformer(**TINY, patch_norm=False, position_encoding='absolute+relative', window_size=(4, 7)),
        SwinTransformer(**TINY, attention_method='performer', position_encoding='none'),
        SwinMixer(**TINY),
    ],
    ids=['v2', 'absolute', 'performer', 'mixer'],
)
def test_adapters_support_all_kinds_of_image_backbones(framework: str, backbone: SwinTransformer) -> None:
    backbone = randomize(copy.deepcopy(backbone)).eval()
    assert_same(adapt(framework, copy.deepcopy(backbone)).eval(), backbone)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_adapters_train_with_autocast(framework: str, dtype: torch.dtype) -> None:
    module = adapt(framework, tiny_backbone()).train()
    with torch.autocast('cpu', dtype, enabled=dtype != torch.float32):
        maps = maps_of(module, torch.randn(2, 3, 45, 70))
    assert all(value.isfinite().all() for value in maps)
    sum(value.float().square().mean() for value in maps).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


def test_copied_and_restored_adapters_give_equal_maps(framework: str) -> None:
    backbone = tiny_backbone().eval()
    module = adapt(framework, copy.deepcopy(backbone)).eval()
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    restored = torch.load(file, weights_only=False)
    for twin in (copy.deepcopy(module), restored):
        assert_same(twin, backbone)
        assert not {p.data_ptr() for p in twin.parameters()} & {p.data_ptr() for p in module.parameters()}
    fresh = adapt(framework, SwinTransformer(**TINY)).eval()
    fresh.load_state_dict(module.state_dict())
    assert_same(fresh, backbone)


def test_frozen_parts_stay_frozen_in_adapters(framework: str) -> None:
    module = adapt(framework, tiny_backbone(frozen_stages=2)).train()
    backbone = inside(module)
    assert not backbone.layers[1].training and backbone.layers[2].training
    assert not any(p.requires_grad for p in backbone.layers[0].parameters())
    backbone.requires_grad_(False)
    maps = maps_of(module, torch.randn(1, 3, 40, 40))
    trained = [p for p in module.parameters() if p.requires_grad]
    assert bool(trained) == (framework == 'torchvision') == any(value.requires_grad for value in maps)


def test_weights_can_be_loaded_before_and_after_adapting(framework: str, tmp_path: Path) -> None:
    trained = tiny_backbone().eval()
    torch.save({'model': trained.state_dict()}, tmp_path / 'weights.pth')
    before = SwinTransformer(**TINY)
    load_pretrained(before, tmp_path / 'weights.pth')
    assert_same(adapt(framework, before).eval(), trained)
    after = adapt(framework, SwinTransformer(**TINY)).eval()
    load_pretrained(inside(after), tmp_path / 'weights.pth')
    assert_same(after, trained)


@pytest.mark.parametrize(
    'wrong', [nn.Linear(1, 1), SwinTransformer, 'swin_t_in1k', VideoSwinTransformer(**TINY, window_size=(2, 4, 4))]
)
def test_adapters_reject_objects_other_than_image_backbones(framework: str, wrong: Any) -> None:
    with pytest.raises(InputError, match=r'^expected an image backbone such as .*load_pretrained\.$'):
        adapt(framework, wrong)


def test_adapters_package_imports_no_framework() -> None:
    names = ('torchvision', 'transformers', 'segmentation_models_pytorch', 'detectron2')
    code = f'import sys, swin_backbone.adapters; print([name for name in {names} if sys.modules.get(name)])'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout == '[]\n'
