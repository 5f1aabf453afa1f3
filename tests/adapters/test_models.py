"""Whole models of each framework: batches of several image sizes, saving and loading, and errors."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from swin_backbone import InputError, SwinTransformer
from swin_backbone.backbones.mm_swin import MMSwinTransformer
from tests.helpers import TINY, tiny_backbone

SIZES = [(37, 51), (64, 20), (3, 5)]


def images() -> list[Tensor]:
    return [torch.randn(3, *size) for size in SIZES]


def test_mask_rcnn_supports_images_of_several_sizes() -> None:
    detection = pytest.importorskip('torchvision.models.detection')
    from swin_backbone.adapters.torchvision import SwinWithFPN

    model = detection.MaskRCNN(
        SwinWithFPN(tiny_backbone(), out_channels=8),
        num_classes=3,
        min_size=32,
        max_size=64,
        box_batch_size_per_image=4,
    )
    boxes = torch.tensor([[0.0, 0.0, 3.0, 3.0]])
    targets = [
        dict(boxes=boxes, labels=torch.tensor([1]), masks=torch.ones(1, *size, dtype=torch.uint8)) for size in SIZES
    ]
    sum(model(images(), targets).values()).backward()
    assert all(p.grad is not None for p in model.backbone.parameters())
    assert [result['masks'].shape[-2:] for result in model.eval()(images())] == SIZES


def test_torchvision_pyramid_supports_fewer_maps() -> None:
    pytest.importorskip('torchvision')
    from swin_backbone.adapters.torchvision import SwinWithFPN

    levels = SwinWithFPN(tiny_backbone(out_indices=(1, 3)), out_channels=8)(torch.randn(1, 3, 64, 64))
    assert {name: level.shape[-1] for name, level in levels.items()} == {'0': 8, '1': 2, 'pool': 1}


def transformers_model(name: str) -> Any:
    """Build a small model of Transformers with a small backbone."""
    transformers = pytest.importorskip('transformers', minversion='5')
    from swin_backbone.adapters.transformers import describe, put_backbone

    backbone = tiny_backbone()
    config, model, thin = {
        'upernet': ('UperNetConfig', 'UperNetForSemanticSegmentation', dict(hidden_size=8, auxiliary_channels=8)),
        'detr': ('DetrConfig', 'DetrForObjectDetection', dict(d_model=16, encoder_layers=1, decoder_layers=1)),
        'mask2former': (
            'Mask2FormerConfig',
            'Mask2FormerForUniversalSegmentation',
            dict(feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_layers=1, decoder_layers=2),
        ),
    }[name]
    built = getattr(transformers, model)(
        getattr(transformers, config)(backbone_config=describe(backbone), num_labels=3, **thin)
    )
    put_backbone(built, backbone)
    return built.eval()


@pytest.mark.parametrize('name', ['upernet', 'detr', 'mask2former'])
def test_transformers_models_save_and_load(name: str, tmp_path: Path) -> None:
    model = transformers_model(name)
    model.save_pretrained(tmp_path)
    loaded, report = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    reference = loaded.eval().state_dict()
    assert reference.keys() == model.state_dict().keys()
    assert all(torch.equal(reference[key], value) for key, value in model.state_dict().items())
    batch = torch.randn(2, 3, 45, 70)
    with torch.no_grad():
        ours, reference = model(batch), loaded(batch)
    for key in ('logits', 'pred_boxes', 'masks_queries_logits', 'class_queries_logits'):
        if key in ours:
            torch.testing.assert_close(ours[key], reference[key])


def test_detr_trains_with_padded_images() -> None:
    model = transformers_model('detr')
    batch, mask = torch.zeros(2, 3, 64, 64), torch.zeros(2, 64, 64, dtype=torch.long)
    for index, (height, width) in enumerate(SIZES[:2]):
        batch[index, :, :height, :width] = torch.randn(3, height, width)
        mask[index, :height, :width] = 1
    labels = [dict(class_labels=torch.tensor([1]), boxes=torch.tensor([[0.5, 0.5, 0.5, 0.5]]))] * 2
    output = model.train()(batch, pixel_mask=mask, labels=labels)
    output.loss.backward()
    assert output.loss.isfinite() and output.pred_boxes.isfinite().all()


def test_transformers_backbone_saves_and_loads(tmp_path: Path) -> None:
    pytest.importorskip('transformers', minversion='5')
    from swin_backbone.adapters.transformers import SwinBackboneConfig, SwinBackboneModel, describe, put_backbone

    backbone = tiny_backbone(attention_method='performer', position_encoding='none').eval()
    model = SwinBackboneModel(describe(backbone))
    put_backbone(model, backbone)
    model.save_pretrained(tmp_path)
    loaded = SwinBackboneModel.from_pretrained(tmp_path).eval()
    image = torch.randn(1, 3, 40, 50)
    with torch.no_grad():
        for ours, reference in zip(backbone(image), loaded(image).feature_maps, strict=True):
            torch.testing.assert_close(ours, reference)  # includes the random features, which are not in the file
    assert loaded.channels == backbone.feature_info.channels()
    chosen = SwinBackboneModel(SwinBackboneConfig(options=describe(backbone).options, out_features=['stage2']))
    assert [m.shape[1] for m in chosen(image).feature_maps] == chosen.channels == [32]
    assert SwinBackboneConfig().build().options == SwinTransformer().options


def test_unsupported_uses_in_transformers_raise_input_error() -> None:
    pytest.importorskip('transformers', minversion='5')
    from swin_backbone.adapters.transformers import describe, put_backbone

    with pytest.raises(InputError, match='supports SwinTransformer and SwinMixer, got MMSwinTransformer'):
        describe(MMSwinTransformer(embed_dims=16, depths=(1, 1), num_heads=(1, 2), strides=(4, 2), out_indices=(0, 1)))
    with pytest.raises(InputError, match='Linear has no backbone of this package'):
        put_backbone(torch.nn.Linear(1, 1), tiny_backbone())
    model = transformers_model('upernet')
    with pytest.raises(InputError, match='built with other options'):
        put_backbone(model, SwinTransformer(**{**TINY, 'depths': (1, 1, 1, 1)}))
    with pytest.raises(InputError, match='only feature maps'):
        model(torch.randn(1, 3, 32, 32), output_hidden_states=True)


def test_detectron2_backbone_interface() -> None:
    from detectron2.modeling import Backbone
    from detectron2.modeling.backbone import FPN

    from swin_backbone.adapters.detectron2 import SwinBackbone
    from tests.adapters.detectron2_stub import pad_batch

    backbone = SwinBackbone(tiny_backbone(out_indices=(1, 2, 3)))
    assert isinstance(backbone, Backbone)
    assert (backbone.size_divisibility, backbone.padding_constraints) == (0, {})
    shapes = {name: (spec.channels, spec.stride) for name, spec in backbone.output_shape().items()}
    assert shapes == {'res3': (32, 8), 'res4': (64, 16), 'res5': (128, 32)}
    batch = pad_batch(images(), backbone)
    assert batch.shape == (3, 3, 64, 51)
    assert {name: tuple(value.shape) for name, value in backbone(batch).items()} == {
        name: (3, channels, -(-64 // stride), -(-51 // stride)) for name, (channels, stride) in shapes.items()
    }
    pyramid = FPN(backbone, list(shapes), 8)
    padded = pad_batch(images(), pyramid)
    assert pyramid.size_divisibility == 32 and padded.shape == (3, 3, 64, 64)
    assert {name: level.shape[-1] for name, level in pyramid(padded).items()} == {'p3': 8, 'p4': 4, 'p5': 2}


SMP_DECODERS = ('Unet', 'UnetPlusPlus', 'MAnet', 'Linknet', 'FPN', 'UPerNet', 'Segformer')


@pytest.mark.parametrize('decoder', SMP_DECODERS)
def test_segmentation_models_decoders_train(decoder: str) -> None:
    smp = pytest.importorskip('segmentation_models_pytorch')
    from swin_backbone.adapters.segmentation_models import register_encoder

    backbone = tiny_backbone(in_channels=4)
    model = getattr(smp, decoder)(register_encoder(backbone), encoder_weights=None, in_channels=4, classes=2)
    model(torch.randn(2, 4, 64, 96)).mean().backward()
    assert all(p.grad is not None for p in model.encoder.parameters())
    assert all(p.grad is None for p in backbone.parameters())  # the model has a copy
    for ours, reference in zip(model.encoder.backbone.parameters(), backbone.parameters(), strict=True):
        assert torch.equal(ours, reference)
    model.freeze_encoder()
    assert not any(p.requires_grad for p in model.encoder.parameters())


@pytest.mark.parametrize('size', SIZES, ids=str)
def test_unet_supports_any_image_size(size: tuple[int, int]) -> None:
    smp = pytest.importorskip('segmentation_models_pytorch')
    from swin_backbone.adapters.segmentation_models import register_encoder

    model = smp.Unet(register_encoder(tiny_backbone()), encoder_weights=None, classes=2)
    assert model(torch.randn(2, 3, *size)).shape == (2, 2, *size)


def test_segmentation_models_support_other_strides() -> None:
    smp = pytest.importorskip('segmentation_models_pytorch')
    from swin_backbone.adapters.segmentation_models import register_encoder

    fine = smp.Unet(register_encoder(tiny_backbone(patch_size=2), 'fine'), 4, None, decoder_channels=(32, 16, 8, 8))
    assert fine.encoder.out_channels == [3, 16, 32, 64, 128] and fine.encoder.output_stride == 16
    shallow = smp.PSPNet(register_encoder(tiny_backbone(out_indices=(0, 1)), 'shallow'), None)
    assert [m.shape[1:] for m in shallow.encoder(torch.randn(1, 3, 10, 9))] == [
        (3, 10, 9), (0, 5, 5), (16, 3, 3), (32, 2, 2)
    ]  # fmt: skip


def test_unsupported_uses_in_segmentation_models_raise_input_error() -> None:
    smp = pytest.importorskip('segmentation_models_pytorch')
    from swin_backbone.adapters.segmentation_models import register_encoder

    name = register_encoder(tiny_backbone())
    with pytest.raises(InputError, match='encoder_depth=3 needs maps of strides up to 8'):
        smp.PSPNet(name, encoder_weights=None)
    with pytest.raises(InputError, match='build the backbone with in_channels=1'):
        smp.Unet(name, encoder_weights=None, in_channels=1)
    with pytest.raises(InputError, match='a last map of stride 8'):
        smp.DeepLabV3(name, encoder_weights=None)
    with pytest.raises(InputError, match='its own encoder'):
        register_encoder(tiny_backbone(), 'resnet34')
