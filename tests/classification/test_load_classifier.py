"""load_classifier: checkpoints of other libraries give equal logits; sizes, layouts and errors."""

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from swin_backbone import InputError, SwinMixer, load_classifier
from swin_backbone.checkpoint.export import convert_file
from swin_backbone.checkpoint.layouts import WRITABLE
from swin_backbone.checkpoint.published import IN1K, IN22K, TUNED, WEIGHTS
from swin_backbone.classification.classifier import ImageClassifier
from swin_backbone.classification.training_sizes import from_name
from tests.checkpoint.peers import build_peer
from tests.helpers import randomize, relative_error, tiny_backbone

SIDE = 64  # maps of 16, 8 and 4 tokens
SIZES: dict[str, Any] = dict(embed_dim=16, depths=(2, 3, 2), num_heads=(1, 2, 4))
CASES = [
    # library, version, window, windows that the position bias was trained with
    ('timm', 1, 4, None),  # the last map is one window, as at 224 and 384 pixels
    ('timm', 1, 8, None),  # the window and its table shrink to the last map
    ('timm', 2, 4, None),
    ('timm', 2, 8, None),  # like windows of 16 at 256 pixels: one window in stage 1, half of one in stage 2
    ('timm', 2, 8, (6, 6, 3)),  # like windows of 16 fine-tuned from 12
    ('torchvision', 1, 4, None),
    ('torchvision', 2, 4, None),
    ('transformers', 1, 4, None),
    ('transformers', 2, 4, None),
    ('transformers', 2, 8, None),
    ('transformers', 2, 8, (6, 6, 3)),
]


def save(library: str, model: Any, folder: Path) -> Path:
    """Save a model in the usual way of its library."""
    if library == 'transformers':
        model.save_pretrained(folder)
        return folder
    file = folder / ('model.safetensors' if library == 'timm' else 'model.pth')
    if library == 'timm':
        save_file(model.state_dict(), file)
    else:
        torch.save(model.state_dict(), file)
    return file


def logits(model: nn.Module, image: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        out = model(image)
    return getattr(out, 'logits', out)


@pytest.mark.parametrize(('library', 'version', 'window', 'pretrained'), CASES)
def test_logits_equal_those_of_other_libraries(
    library: str, version: int, window: int, pretrained: tuple[int, ...] | None, tmp_path: Path
) -> None:
    options = {**SIZES, 'window_size': window} | ({'pretrained_window_sizes': pretrained} if pretrained else {})
    reference = build_peer(library, version, options, SIDE)
    source = save(library, reference, tmp_path)
    if (library, version) == ('timm', 2):
        with pytest.raises(InputError, match='cannot determine the window size'):
            load_classifier(source)
        ours = load_classifier(source, window_size=window, pretrained_window_sizes=pretrained, image_size=SIDE)
    else:
        ours = load_classifier(source)
        assert library == 'torchvision' or ours.image_size == SIDE or window == 8
    image = torch.randn(3, 3, SIDE, SIDE)
    assert relative_error(logits(ours, image), logits(reference, image)) < 1e-5
    assert ours.load_report is not None and ours.load_report.complete and not ours.load_report.new


def classifier(version: int, **options: Any) -> ImageClassifier:
    """Build a small classifier with random weights."""
    backbone = tiny_backbone(
        **{**SIZES, 'version': version, 'window_size': 4, 'small_maps': 'shrink', 'out_indices': (2,), **options}
    )
    model = ImageClassifier(backbone, 10, SIDE).eval()
    return model.requires_grad_(False)


def native_state(model: ImageClassifier) -> dict[str, torch.Tensor]:
    """Return the weights of a classifier with the names of the original classification code."""
    state = {
        name.replace('norm2.', 'norm.', 1) if name.startswith('norm2.') else name: value
        for name, value in model.backbone.state_dict().items()
    }
    return state | {f'head.{name}': value for name, value in model.head.state_dict().items()}


@pytest.mark.parametrize('layout', sorted(set(WRITABLE) - {'maskformer', 'timm-features'}))
@pytest.mark.parametrize('version', [1, 2])
def test_classifiers_load_from_every_layout(layout: str, version: int, tmp_path: Path) -> None:
    model, file = classifier(version), tmp_path / 'swin_window4_064.pth'
    torch.save({'model': native_state(model), 'optimizer': {'state': {0: {'exp_avg': torch.zeros(3)}}}}, file)
    if layout == 'transformers-memory' and version == 2:
        pytest.skip('has no such names')
    converted = tmp_path / 'swin_window4_064.safetensors'
    convert_file(str(file), converted, layout, window_size=[4])
    image = torch.randn(2, 3, SIDE, SIDE)
    for source in (file, converted):
        assert relative_error(load_classifier(source)(image), model(image)) < 1e-6


def test_mixer_classifier_loads() -> None:
    mixer = randomize(SwinMixer(None, **SIZES, window_size=4, drop_path_rate=0.0, out_indices=(2,)))
    model = ImageClassifier(mixer, 7).eval()  # type: ignore[arg-type]
    image = torch.randn(1, 3, SIDE, SIDE)
    ours = load_classifier(native_state(model))
    assert relative_error(logits(ours, image), logits(model, image)) < 1e-6 and ours.image_size == SIDE


@pytest.mark.parametrize(('window', 'masked', 'size'), [(4, True, 64), (4, False, 64), (2, True, 64), (2, False, 32)])
def test_image_size_comes_from_masks_or_the_last_window(window: int, masked: bool, size: int) -> None:
    state = native_state(classifier(1, window_size=window))
    if masked:
        state['layers.0.blocks.1.attn_mask'] = torch.zeros((16 // window) ** 2, window**2, window**2)
    assert load_classifier(state).image_size == size
    assert load_classifier(state, image_size=96).image_size == 96


def test_classifier_with_absolute_embedding_loads() -> None:
    model = classifier(1, position_encoding='absolute+relative', pretrain_img_size=SIDE)
    state = native_state(model)
    state['absolute_pos_embed'] = state['absolute_pos_embed'].flatten(2).transpose(1, 2)
    image = torch.randn(1, 3, SIDE, SIDE)
    assert relative_error(load_classifier(state)(image), model(image)) < 1e-6


STEMS = {
    name: Path(weights.release).stem
    for name, weights in WEIGHTS.items()
    if weights.network == 'SwinTransformer'
    and weights.image_size
    and 'window' in weights.release
    and weights.data in (IN1K, IN22K, TUNED)
}


@pytest.mark.parametrize('name', STEMS)
def test_from_name_agrees_with_the_table_of_published_weights(name: str) -> None:
    for spelled in (STEMS[name], f'/models/{STEMS[name].replace("_", "-")}/model.safetensors'):
        found, known = from_name(spelled, 4), from_name(name, 4)
        assert (found.image_size, found.windows) == (known.image_size, known.windows)
        assert found.pretrained == known.pretrained or WEIGHTS[name].version == 1


def test_config_files_of_libraries_give_window_and_image_size(tmp_path: Path) -> None:
    state, file = native_state(classifier(2)), tmp_path / 'model.safetensors'
    save_file(state, file)
    config = tmp_path / 'config.json'
    for described, window, size in (
        ({'architecture': 'swinv2_tiny_window8_256', 'pretrained_cfg': {'input_size': [3, 256, 256]}}, 8, 256),
        ({'model_type': 'swinv2', 'window_size': 4, 'image_size': 96}, 4, 96),
    ):
        config.write_text(json.dumps(described))
        model = load_classifier(tmp_path)
        assert (model.backbone.options.windows[0][0], model.image_size) == (window, size)
    config.write_text('[]')
    with pytest.raises(InputError, match='--window-size'):
        load_classifier(tmp_path)


def without(state: dict[str, torch.Tensor], *names: str) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state.items() if name not in names}


DAMAGES: dict[str, tuple[Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], str]] = {
    'no head': (lambda state: without(state, 'head.weight', 'head.bias'), 'without the last layer of a classifier'),
    'half a head': (lambda state: without(state, 'head.bias'), 'without the last layer of a classifier'),
    'an odd head': (lambda state: state | {'head.weight': torch.zeros(10)}, 'a last layer of shapes'),
    'no norm': (lambda state: without(state, 'norm.weight', 'norm.bias'), 'no final norm'),
    'no block': (lambda state: without(state, 'layers.1.blocks.0.attn.qkv.weight'), 'missing 1'),
    'no table': (lambda state: without(state, 'layers.1.blocks.0.attn.relative_position_bias_table'), 'missing 1'),
    'more than a classifier': (lambda state: state | {'extra.weight': torch.zeros(2)}, r'extra\.weight'),
    'more than a block': (lambda state: state | {'layers.0.blocks.0.gate': torch.zeros(2)}, 'unexpected 1'),
}


@pytest.mark.parametrize('damage', DAMAGES)
def test_checkpoints_that_are_not_classifiers_raise_input_error(damage: str) -> None:
    change, message = DAMAGES[damage]
    with pytest.raises(InputError, match=message):
        load_classifier(change(native_state(classifier(1))))


@pytest.mark.parametrize(('version', 'windows'), [(1, [4, 4, 4]), (2, [4, 4, 4]), (2, [8, 8, 4])])
def test_mmpretrain_classifiers_give_equal_logits(version: int, windows: list[int], tmp_path: Path) -> None:
    """MMPretrain's V2 takes one window per stage."""
    import_module('swin_backbone.toolkit_imports')
    models: Any = pytest.importorskip('mmpretrain.models')
    arch = dict(embed_dims=16, depths=[2, 3, 2], num_heads=[1, 2, 4])
    backbone = dict(type='SwinTransformer', window_size=4, arch=arch)
    if version == 2:
        backbone = dict(type='SwinTransformerV2', window_size=windows, arch=dict(arch, extra_norm_every_n_blocks=0))
    reference = models.ImageClassifier(
        backbone=dict(backbone, img_size=SIDE, out_indices=(2,)),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=10, in_channels=64),
    )
    randomize(reference).eval()
    torch.save({'state_dict': reference.state_dict(), 'meta': {}}, tmp_path / 'epoch_1.pth')
    ours = load_classifier(tmp_path / 'epoch_1.pth')
    image = torch.randn(3, 3, SIDE, SIDE)
    with torch.no_grad():
        expected = reference.head(reference.extract_feat(image))
        assert relative_error(ours(image), expected) < 1e-5
    assert ours.image_size == SIDE
