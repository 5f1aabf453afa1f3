"""Strict loading: a checkpoint covers every parameter, or the error lists missing and unexpected ones; exceptions."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from swin_backbone import SwinTransformer, load_pretrained
from swin_backbone.errors import InputError
from tests.checkpoint.layouts import Sizes, layout_state
from tests.helpers import TINY, tiny_backbone

TABLE = 'attn.relative_position_bias_table'


def state_of(**options: Any) -> dict[str, Tensor]:
    return dict(tiny_backbone(**options).state_dict())


def error_message(model: SwinTransformer, state: dict[str, Tensor]) -> str:
    """Return the error of loading ``state``, and check that the model is unchanged."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(InputError) as error:
        load_pretrained(model, state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    return str(error.value)


def test_the_variant_of_a_file_is_recognised_and_suggested() -> None:
    with torch.device('meta'):
        small, tiny = SwinTransformer('small'), SwinTransformer('tiny')
    message = error_on_meta(tiny, dict(small.state_dict()))
    assert 'Swin V1 small (embed_dim 96, depths 2, 2, 18, 2, heads 3, 6, 12, 24)' in message
    assert 'the backbone is Swin V1 tiny' in message and "built with variant='small'" in message
    assert 'unexpected 156: layers.2.blocks.6-17.*' in message and 'missing' not in message
    message = error_on_meta(small, dict(tiny.state_dict()))
    assert 'missing 156: layers.2.blocks.6-17.*' in message and "built with variant='tiny'" in message


def error_on_meta(model: SwinTransformer, state: dict[str, Tensor]) -> str:
    with pytest.raises(InputError) as error:
        load_pretrained(model, state)
    return str(error.value)


@pytest.mark.parametrize(('file', 'model'), [(2, 1), (1, 2)])
def test_another_version_is_reported(file: int, model: int) -> None:
    message = error_message(tiny_backbone(version=model, window_size=4), state_of(version=file, window_size=4))
    assert f'it contains Swin V{file}' in message and f'built with version={file}' in message
    v2_only, v1_only = 'layers.*.blocks.*.attn.logit_scale (x8)', f'layers.*.blocks.*.{TABLE} (x8)'
    unexpected, missing = (v2_only, v1_only) if file == 2 else (v1_only, v2_only)
    assert unexpected in message.partition('unexpected')[2] and missing in message.partition('unexpected')[0]


@pytest.mark.parametrize(
    ('file', 'model', 'advice'),
    [
        (dict(embed_dim=32), {}, 'variant=None, embed_dim=32, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8)'),
        (dict(num_heads=(2, 2, 4, 8)), {}, 'num_heads=(2, 2, 4, 8)'),
        (dict(qkv_bias=False), {}, 'qkv_bias=False'),
        ({}, dict(qkv_bias=False), 'qkv_bias=True'),
        (dict(version=2, qkv_bias=False), dict(version=2), 'qkv_bias=False'),
        (dict(patch_norm=False), {}, 'patch_norm=False'),
        ({}, dict(patch_norm=False), 'patch_norm=True'),
        (dict(patch_size=2), {}, 'patch_size=2'),
        (dict(mlp_ratio=2.0), {}, 'mlp_ratio=2.0'),
        (dict(position_encoding='none'), {}, "position_encoding='none' or 'absolute'"),
        (dict(out_indices=(1, 2, 3)), {}, 'out_indices=(1, 2, 3)'),
        (dict(out_indices=(0, 1)), {}, 'out_indices=(0, 1)'),
        (
            dict(version=2, depths=(6, 2, 2, 2)),
            dict(variant='huge', version=2, depths=(6, 2, 2, 2)),
            'variant=None, embed',
        ),
        (
            dict(variant='huge', version=2, depths=(6, 2, 2, 2)),
            dict(version=2, depths=(6, 2, 2, 2)),
            "variant='huge', embed_dim=16",
        ),
    ],
)
def test_the_likely_cause_is_suggested(file: dict[str, Any], model: dict[str, Any], advice: str) -> None:
    message = error_message(tiny_backbone(**model), state_of(**file))
    assert advice in message.partition('Most likely')[2]


@pytest.mark.parametrize(
    'name', ['layers.0.blocks.0.mlp.fc1.weight', 'patch_embed.proj.weight', 'patch_embed.norm.weight']
)
def test_one_missing_tensor_does_not_suggest_other_sizes(name: str) -> None:
    state = state_of()
    del state[name]
    message = error_message(tiny_backbone(), state)
    assert f'missing 1: {name}' in message and 'damaged or of another network' in message


def test_missing_and_unexpected_weights_are_listed() -> None:
    state = state_of()
    del state['layers.1.blocks.0.mlp.fc1.weight'], state['patch_embed.proj.bias']
    state['layers.0.blocks.1.mlp.fc3.weight'] = torch.ones(1)
    message = error_message(tiny_backbone(), state)
    assert 'missing 2: layers.1.blocks.0.mlp.fc1.weight, patch_embed.proj.bias' in message
    assert 'unexpected 1: layers.0.blocks.1.mlp.fc3.weight' in message and 'damaged or of another network' in message


@pytest.mark.parametrize(
    'name',
    [
        'patch_embed.proj.weight',
        'patch_embed.proj.bias',
        'layers.0.blocks.0.attn.logit_scale',
        'layers.0.blocks.0.attn.qkv.weight',
        'layers.0.blocks.0.mlp.fc1.weight',
        'layers.1.downsample.reduction.weight',
    ],
)
@pytest.mark.parametrize('shape', [(), (0,), (0, 0), (2, 3, 4)])
def test_weights_of_invalid_shapes_are_reported(name: str, shape: tuple[int, ...]) -> None:
    state = {**state_of(version=2), name: torch.ones(shape)}
    assert 'does not fit this backbone' in error_message(tiny_backbone(version=2), state)


@pytest.mark.parametrize('shape', [(), (0,), (1, 3, 3, 2)])
def test_buffers_of_invalid_shapes_are_ignored_or_reported(shape: tuple[int, ...]) -> None:
    name = 'layers.0.blocks.0.attn.relative_coords_table'
    assert load_pretrained(tiny_backbone(version=2), {**state_of(version=2), name: torch.ones(shape)}).complete
    name = 'layers.0.blocks.0.attn.relative_position_index'
    if not torch.ones(shape).numel():
        assert 'empty relative_position_index' in error_message(
            tiny_backbone(), {**state_of(), name: torch.ones(shape)}
        )


def test_strict_false_loads_what_fits_and_logs_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    state = state_of(depths=(2, 2, 3, 2), qkv_bias=False)
    model = tiny_backbone()
    with caplog.at_level(logging.INFO, 'swin_backbone'):
        report = load_pretrained(model, state, strict=False)
    assert not report.complete and len(report.missing) == 8 and len(report.leftover) == 12
    assert caplog.records[0].levelno == logging.WARNING and 'unexpected 12: layers.2.blocks.2.*' in caplog.messages[0]
    assert torch.equal(model.layers[3].blocks[1].attn.proj.weight, state['layers.3.blocks.1.attn.proj.weight'])


def test_success_is_logged_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    state = layout_state('original', Sizes(16, (2, 2, 2, 2), (1, 2, 4, 8), window=4, tokens=64), 1)
    with caplog.at_level(logging.INFO, 'swin_backbone'):
        load_pretrained(tiny_backbone(window_size=6, in_channels=1), {'model': state})
    assert caplog.messages == [
        'loaded 117 of 125 parameters from the state dict (original layout, Swin V1); adapted: patch_embed.proj.weight '
        f'(3 channels summed), layers.*.blocks.*.{TABLE} (x8) (window 4x4 to 6x6); new: norm0, norm1, norm2, norm3; '
        'dropped: relative_position_index x8, attn_mask x4, norm, head'
    ]


@pytest.mark.parametrize(
    ('file', 'model', 'dropped', 'new', 'warning'),
    [
        ({}, dict(out_indices=(0, 1)), 'layers.3.blocks.1.norm1.bias', (), ''),
        ({}, dict(out_indices=(0, 1)), 'layers.1.downsample.reduction.weight', (), ''),
        ({}, dict(out_indices=(1, 3)), 'norm0.weight', (), ''),
        ({}, dict(position_encoding='none'), f'layers.0.blocks.0.{TABLE}', (), 'relative position bias is dropped'),
        (
            dict(position_encoding='absolute+relative'),
            {},
            'absolute_pos_embed',
            (),
            'absolute position embedding is dropped',
        ),
        ({}, dict(position_encoding='absolute+relative'), None, ('absolute_pos_embed',), 'starts untrained'),
    ],
)
def test_parameters_that_a_configuration_does_not_use_may_be_dropped_or_new(
    file: dict[str, Any], model: dict[str, Any], dropped: str | None, new: tuple[str, ...], warning: str
) -> None:
    report = load_pretrained(tiny_backbone(**model), state_of(**file))
    assert report.complete and report.new == new
    assert dropped is None or dropped in report.dropped
    assert warning in ' '.join(report.warnings) and bool(warning) == bool(report.warnings)


def last_norm_alone(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if not name.startswith(('norm0', 'norm1', 'norm2'))}


def test_a_classifiers_norm_is_not_an_output_norm() -> None:
    alone = last_norm_alone(state_of())
    model = tiny_backbone()
    report = load_pretrained(model, alone)
    assert 'norm3.weight' in report.new and 'norm3.weight' in report.dropped
    only_last = tiny_backbone(out_indices=(3,))
    assert not load_pretrained(only_last, alone).new
    assert torch.equal(only_last.norm3.weight, alone['norm3.weight'])


def test_the_last_norm_is_a_classifiers_if_there_is_a_head() -> None:
    sizes = Sizes(16, (2, 2, 2, 2), (1, 2, 4, 8), window=4)
    report = load_pretrained(tiny_backbone(window_size=4, out_indices=(3,)), layout_state('mm', sizes, 1))
    assert report.new == ('norm3.weight', 'norm3.bias')


@pytest.mark.parametrize(
    'wrap', [lambda m: nn.Sequential(m), lambda m: nn.ModuleDict({'backbone': m}), lambda m: nn.Linear(2, 2)]
)
def test_models_that_are_not_backbones_are_an_error(wrap: Callable[[nn.Module], nn.Module]) -> None:
    with pytest.raises(InputError, match='weights can be loaded into a backbone, not into a'):
        load_pretrained(wrap(SwinTransformer(**TINY)), {})


def test_weights_are_converted_to_the_dtype_of_the_model() -> None:
    model, state = tiny_backbone(), state_of()
    load_pretrained(model, {name: value.bfloat16() for name, value in state.items()})
    assert model.layers[0].blocks[0].attn.qkv.weight.dtype == torch.float32
    assert torch.equal(model.norm0.weight, state['norm0.weight'].bfloat16().float())


def test_other_parts_of_a_detector_are_counted() -> None:
    state = {f'backbone.{name}': value for name, value in state_of().items()}
    report = load_pretrained(
        tiny_backbone(), {'state_dict': {**state, 'neck.a': torch.ones(1), 'head.b': torch.ones(1)}}
    )
    assert report.beside == 2 and str(report).endswith('; ignored: 2 tensors outside the backbone')
