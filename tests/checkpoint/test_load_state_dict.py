"""``load_state_dict`` converts other layouts, and otherwise behaves like that of any PyTorch module."""

import copy
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from swin_backbone import SwinTransformer, load_pretrained
from swin_backbone.errors import InputError
from tests.checkpoint.layouts import LAYOUTS, Sizes, layout_state
from tests.helpers import tiny_backbone

SMALL = Sizes(16, (2, 2, 2, 2), (1, 2, 4, 8), window=4, tokens=64)


class Detector(nn.Module):
    """A model with a backbone and a neck."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.backbone = tiny_backbone(window_size=4, **options)
        self.neck = nn.Conv2d(16, 4, 1)


def detector_file(detector: Detector) -> dict[str, Tensor]:
    """Return the detector's weights as saved by the original detection code, with the index of the bias tables."""
    state = {name: value.clone() for name, value in detector.state_dict().items()}
    index = layout_state('original', SMALL, 1)['layers.0.blocks.0.attn.relative_position_index']
    blocks = {name.rpartition('.attn.')[0] for name in state if '.attn.' in name}
    return {**state, **{f'{block}.attn.relative_position_index': index for block in blocks}}


def torch_strict(model: nn.Module, state: dict[str, Any]) -> None:
    model.load_state_dict(state)


def torch_lenient(model: nn.Module, state: dict[str, Any]) -> None:
    model.load_state_dict(state, strict=False)


def torch_assign(model: nn.Module, state: dict[str, Any]) -> None:
    model.load_state_dict(state, assign=True)


def mmengine_strict(model: nn.Module, state: dict[str, Any]) -> None:
    pytest.importorskip('mmengine.runner.checkpoint').load_state_dict(model, state, strict=True)


def mmengine_lenient(model: nn.Module, state: dict[str, Any]) -> None:
    pytest.importorskip('mmengine.runner.checkpoint').load_state_dict(model, state, strict=False)


LOADERS = [torch_strict, torch_lenient, torch_assign, mmengine_strict, mmengine_lenient]
Loader = Callable[[nn.Module, dict[str, Any]], None]


@pytest.mark.parametrize('load', LOADERS)
@pytest.mark.parametrize('layout', LAYOUTS)
def test_load_state_dict_of_classifiers_equals_load_pretrained(load: Loader, layout: str) -> None:
    version = LAYOUTS[layout][1][-1]
    expected = tiny_backbone(version=version, window_size=4)
    model = copy.deepcopy(expected)
    state = layout_state(layout, SMALL, version)
    load_pretrained(expected, state)
    load(model, dict(state))
    for (name, ours), reference in zip(model.named_parameters(), expected.parameters(), strict=True):
        assert torch.equal(ours, reference) and isinstance(ours, nn.Parameter), name


@pytest.mark.parametrize('load', LOADERS)
def test_a_detector_of_the_original_code_loads(load: Loader) -> None:
    source, model = Detector(), Detector()
    load(model, detector_file(source))
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize('load', LOADERS)
def test_timm_backbones_load_inside_a_detector(load: Loader) -> None:
    model, expected = Detector(), tiny_backbone(window_size=4)
    foreign = layout_state('timm', SMALL, 1)
    load_pretrained(expected, foreign)
    neck = {f'neck.{name}': value for name, value in model.neck.state_dict().items()}
    norm = model.backbone.norm2.weight.clone()
    load(model, {**{f'backbone.{name}': value for name, value in foreign.items()}, **neck})
    assert torch.equal(
        model.backbone.layers[1].downsample.reduction.weight, expected.layers[1].downsample.reduction.weight
    )
    assert torch.equal(model.backbone.norm2.weight, norm)


def outcome(model: nn.Module, state: dict[str, Any], strict: bool) -> Any:
    """Return the result or the error message of ``load_state_dict``."""
    try:
        return model.load_state_dict(dict(state), strict=strict)
    except RuntimeError as error:
        return str(error)


def without_hook(model: nn.Module) -> nn.Module:
    """Return a copy without pre-hooks of ``load_state_dict``."""
    twin = copy.deepcopy(model)
    for module in twin.modules():
        module._load_state_dict_pre_hooks.clear()
    return twin


def partial_states() -> dict[str, dict[str, Any]]:
    """Return state dicts with native names that do not match :class:`Detector`."""
    state = Detector().state_dict()
    norms = {name: value for name, value in state.items() if name.startswith('backbone.norm')}
    head = {f'backbone.head.{kind}': torch.ones(2) for kind in ('weight', 'bias')}
    block = {name: value for name, value in state.items() if name.startswith('backbone.layers.1.')}
    return {
        'empty': {},
        'neck only': {name: value for name, value in state.items() if name.startswith('neck.')},
        'norms only': norms,
        'head only': head,
        'with a head': {**state, **head},
        'all but norms': {name: value for name, value in state.items() if name not in norms},
        'one norm': {name: value for name, value in state.items() if name not in norms or 'norm3' in name},
        'one stage': block,
        'one stage and more': {**block, 'backbone.more': torch.ones(1)},
        'first block': {name: value for name, value in state.items() if 'layers.0.blocks.0.' in name},
        'one missing': {
            name: value for name, value in state.items() if name != 'backbone.layers.1.blocks.1.mlp.fc1.bias'
        },
        'one more block': {**state, 'backbone.layers.1.blocks.2.norm1.weight': torch.ones(32)},
        'of another shape': {**state, 'backbone.layers.1.blocks.1.mlp.fc1.bias': torch.ones(3)},
        'one more': {**state, 'backbone.more': torch.ones(1)},
        'something else': {**state, 'backbone.settings': 3, 'backbone.more': {'a': 1}},
        'another network': {'backbone.conv1.weight': torch.ones(1)},
    }


@pytest.mark.parametrize('strict', [True, False])
@pytest.mark.parametrize('partial', partial_states())
def test_partial_native_weights_load_as_without_the_hook(partial: str, strict: bool) -> None:
    model, state = Detector(), partial_states()[partial]
    twin = without_hook(model)
    assert outcome(model, state, strict) == outcome(twin, state, strict)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_a_partial_state_dict_loads_and_reports_missing_keys() -> None:
    model, name = tiny_backbone(), 'layers.2.blocks.1.attn.qkv.weight'
    value = torch.randn_like(model.get_parameter(name))
    missing, unexpected = model.load_state_dict({name: value}, strict=False)
    assert set(missing) == model.state_dict().keys() - {name} and not unexpected
    assert torch.equal(model.get_parameter(name), value)
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: .*"norm3\.bias"'):
        model.load_state_dict({name: value})


def test_native_tables_of_another_window_are_resized_in_partial_state_dicts() -> None:
    model, name = tiny_backbone(window_size=6), 'layers.0.blocks.0.attn.relative_position_bias_table'
    source = tiny_backbone(window_size=4).state_dict()
    missing, unexpected = model.load_state_dict({key: source[key] for key in source if 'layers.0' in key}, strict=False)
    assert 'norm0.weight' in missing and name not in missing and not unexpected
    with pytest.raises(RuntimeError, match='norm0'):
        model.load_state_dict({key: source[key] for key in source if not key.startswith('norm')})


@pytest.mark.parametrize('layout', ['timm', 'mm', 'torchvision', 'transformers'])
def test_partial_weights_in_other_layouts_are_converted_and_missing_keys_reported(layout: str) -> None:
    expected, model = tiny_backbone(window_size=4), tiny_backbone(window_size=4)
    state = layout_state(layout, SMALL, 1)
    load_pretrained(expected, state)
    last = [name for name in state if name.endswith('mlp.fc2.bias') or 'mlp.3.bias' in name or 'output.dense.b' in name]
    del state[(last or [name for name in state if name.endswith('ffn.layers.1.bias')])[-1]]
    missing, unexpected = model.load_state_dict({**state, 'more': torch.ones(1)}, strict=False)
    assert 'norm0.weight' in missing and len(missing) == 9 and unexpected == ['more']
    assert torch.equal(model.layers[2].downsample.norm.bias, expected.layers[2].downsample.norm.bias)
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: .*layers\.3\.blocks\.1'):
        model.load_state_dict(state)


def test_parametrized_submodules_load_their_own_names() -> None:
    model = tiny_backbone()
    for layer in model.layers:
        for block in layer.blocks:
            nn.utils.parametrizations.weight_norm(block.attn.qkv)
    state = {name: value + 1 for name, value in model.state_dict().items()}
    assert str(model.load_state_dict(state)) == '<All keys matched successfully>'
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize('target', ['qkv', 'fc1'])
def test_peft_adapters_survive_saving_and_loading(target: str) -> None:
    peft = pytest.importorskip('peft')
    config = peft.LoraConfig(r=2, target_modules=[target], init_lora_weights=False)
    base = tiny_backbone()
    source, model = (peft.get_peft_model(copy.deepcopy(base), config) for _ in range(2))
    image = torch.randn(1, 3, 40, 40)
    result = peft.set_peft_model_state_dict(model, peft.get_peft_model_state_dict(source))
    assert not result.unexpected_keys
    assert torch.equal(model.eval()(image)[3], source.eval()(image)[3])
    model = peft.get_peft_model(tiny_backbone(), config)
    assert str(model.load_state_dict(source.state_dict())) == '<All keys matched successfully>'
    assert torch.equal(model.eval()(image)[3], source.eval()(image)[3])


def test_native_weights_load_unchanged_and_without_log_messages(caplog: pytest.LogCaptureFixture) -> None:
    source, model = Detector(), Detector()
    state = source.state_dict()
    with caplog.at_level(logging.DEBUG, 'swin_backbone'):
        assert str(model.load_state_dict(state)) == '<All keys matched successfully>'
    assert not caplog.records
    assert state.keys() == source.state_dict().keys()


def test_the_callers_state_dict_is_not_changed() -> None:
    state = layout_state('mm', SMALL, 1)
    keys = list(state)
    tiny_backbone(window_size=4).load_state_dict(state)
    assert list(state) == keys


def test_a_nested_checkpoint_is_loaded() -> None:
    source, model = tiny_backbone(), tiny_backbone()
    model.load_state_dict({'model': dict(source.state_dict()), 'epoch': 3, 'config': {}}, strict=False)
    assert torch.equal(model.norm0.bias, source.norm0.bias)


def test_tables_are_resized_inside_a_detector(caplog: pytest.LogCaptureFixture) -> None:
    model = Detector()
    model.backbone = tiny_backbone(window_size=6)
    with caplog.at_level(logging.INFO, 'swin_backbone'):
        model.load_state_dict(detector_file(Detector()))
    assert '(window 4x4 to 6x6)' in caplog.messages[0]


def test_copied_and_pickled_models_load_into_themselves() -> None:
    source = tiny_backbone(window_size=4)
    state = {f'module.{name}': value for name, value in source.state_dict().items()}
    original = tiny_backbone(window_size=4)
    untouched = original.norm0.bias.clone()
    for twin in (copy.deepcopy(original), pickle.loads(pickle.dumps(original))):
        twin.load_state_dict(state)
        assert torch.equal(twin.norm0.bias, source.norm0.bias)
    assert torch.equal(original.norm0.bias, untouched)


def test_averaged_model_state_dicts_load() -> None:
    source, model = Detector(), Detector()
    averaged = torch.optim.swa_utils.AveragedModel(model)
    averaged.load_state_dict(torch.optim.swa_utils.AveragedModel(source).state_dict())
    assert torch.equal(averaged.module.backbone.norm0.bias, source.backbone.norm0.bias)


def test_mmengine_moving_average_state_dicts_load() -> None:
    model_module = pytest.importorskip('mmengine.model')
    source, model = Detector(), Detector()
    averaged = model_module.ExponentialMovingAverage(model)
    averaged.load_state_dict(model_module.ExponentialMovingAverage(source).state_dict())
    assert torch.equal(averaged.module.backbone.norm0.bias, source.backbone.norm0.bias)


@pytest.mark.parametrize('strict', [True, False])
def test_mmengine_loads_a_detector_file(tmp_path: Path, strict: bool) -> None:
    checkpoint = pytest.importorskip('mmengine.runner.checkpoint')
    source, model = Detector(), Detector()
    torch.save({'meta': {'CLASSES': ('a',)}, 'state_dict': detector_file(source)}, tmp_path / 'detector.pth')
    checkpoint.load_checkpoint(model, str(tmp_path / 'detector.pth'), strict=strict)
    assert torch.equal(model.backbone.norm3.weight, source.backbone.norm3.weight)


def pretrained_init(**options: Any) -> Callable[[nn.Module], None]:
    return pytest.importorskip('mmengine.model').PretrainedInit(**options)


def test_pretrained_init_accepts_any_file_but_init_cfg_requires_complete_weights(tmp_path: Path) -> None:
    model = tiny_backbone(window_size=4)
    path = tmp_path / 'file.pth'
    torch.save({'model': layout_state('original', SMALL, 1), 'epoch': 1}, path)
    pretrained_init(checkpoint=str(path))(model)
    torch.save({'state_dict': detector_file(Detector())}, path)
    pretrained_init(checkpoint=str(path), prefix='backbone.')(model)
    pretrained_init(checkpoint=str(path))(model)
    model.init_cfg = dict(type='Pretrained', checkpoint=str(path))
    torch.save({'model': layout_state('original', SMALL, 2)}, path)
    with pytest.raises(InputError, match='version=2'):
        model.init_weights()
    torch.save({'state_dict': nn.Linear(2, 2).state_dict()}, path)
    with pytest.raises(InputError, match='contains no Swin backbone'):
        model.init_weights()


def test_init_cfg_accepts_other_layouts(tmp_path: Path) -> None:
    path = tmp_path / 'file.pth'
    torch.save(layout_state('torchvision', SMALL, 1), path)
    model = tiny_backbone(window_size=4, init_cfg=dict(type='Pretrained', checkpoint=str(path)))
    model.init_weights()
    expected = tiny_backbone(window_size=4)
    load_pretrained(expected, path)
    assert torch.equal(model.layers[3].blocks[1].mlp.fc2.weight, expected.layers[3].blocks[1].mlp.fc2.weight)
    missing = SwinTransformer('tiny', init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'none.pth')))
    with pytest.raises(InputError, match='does not exist'):
        missing.init_weights()
