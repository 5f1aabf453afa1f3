"""Conventions of other libraries: creation on meta, timm's methods, and errors for invalid inputs."""

from typing import Any

import numpy as np
import pytest
import torch

from swin_backbone import InputError, SwinTransformer, create_model, load_pretrained
from swin_backbone.backbones.mm_swin import MMSwinTransformer

SMALL: dict[str, Any] = dict(variant=None, embed_dim=16, depths=(2, 1), num_heads=(1, 2), out_indices=(0, 1))
MM: dict[str, Any] = dict(embed_dims=16, depths=(2, 1), num_heads=(1, 2), out_indices=(0, 1), strides=(4, 2))

OPTIONS = [
    (SwinTransformer, dict(SMALL)),
    (SwinTransformer, dict(SMALL, version=2)),
    (SwinTransformer, dict(SMALL, position_encoding='absolute+relative')),
    (SwinTransformer, dict(SMALL, position_encoding='relative-only', version=2)),
    (SwinTransformer, dict(SMALL, attention_method='performer')),
    (SwinTransformer, dict(SMALL, attention_method='sliding-kernel')),
    (MMSwinTransformer, dict(MM, use_abs_pos_embed=True)),
]


def on_meta(kind: type[SwinTransformer], options: dict[str, Any]) -> SwinTransformer:
    with torch.device('meta'):
        model = kind(**options)
    model.to_empty(device='cpu')
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data.fill_(float('nan') if tensor.is_floating_point() else -9)
    return model


@pytest.mark.parametrize(('kind', 'options'), OPTIONS, ids=str)
def test_init_weights_initialises_a_backbone_from_meta(kind: type[SwinTransformer], options: dict[str, Any]) -> None:
    model, new = on_meta(kind, options), kind(**options)
    model.init_weights()
    for (name, found), expected in zip(model.named_parameters(), new.parameters(), strict=True):
        if expected.std(correction=0) == 0:
            assert torch.equal(found, expected), name
        else:
            assert 0.4 < found.std(correction=0) / expected.std(correction=0) < 2.5, name
    for (name, buffer), other in zip(model.named_buffers(), new.buffers(), strict=True):
        assert torch.equal(buffer, other), name
    assert all(out.isfinite().all() for out in model.eval()(torch.randn(1, 3, 40, 24)))

    before = [parameter.clone() for parameter in model.parameters()]
    model.init_weights()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize('load', [load_pretrained, lambda model, state: model.load_state_dict(state)])
def test_init_weights_keeps_loaded_weights(load: Any) -> None:
    state = SwinTransformer(**SMALL).state_dict()
    model = on_meta(SwinTransformer, SMALL)
    load(model, state)
    model.init_weights()
    assert all(torch.equal(model.state_dict()[name], value) for name, value in state.items())


@pytest.mark.supported
def test_timm_methods_describe_the_backbone() -> None:
    model = SwinTransformer(**SMALL)
    assert model.feature_info.channels() == [16, 32] and model.feature_info.reduction() == [4, 8]
    exempt = model.no_weight_decay()
    assert exempt == {name for name, _ in model.named_parameters() if 'bias_table' in name}
    model.set_grad_checkpointing()
    assert [stage.with_cp for stage in model.layers] == [True, True]
    model.set_grad_checkpointing(False)
    assert [stage.with_cp for stage in model.layers] == [False, False]


@pytest.mark.supported
@pytest.mark.parametrize(('kind', 'options'), OPTIONS, ids=str)
def test_forward_intermediates_returns_maps_of_any_stages(kind: type[SwinTransformer], options: dict[str, Any]) -> None:
    model, image = kind(**options).eval(), torch.randn(2, 3, 40, 24)
    maps = model(image)
    last, normed = model.forward_intermediates(image, norm=True)
    assert all(torch.equal(a, b) for a, b in zip(normed, maps, strict=True))
    assert torch.equal(last.permute(0, 3, 1, 2), maps[1])
    plain = model.forward_intermediates(image, intermediates_only=True)
    for out, index in zip(plain, model.out_indices, strict=True):
        norm = model.get_submodule(f'norm{index}')
        assert torch.equal(norm(out.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), maps[index]) and out.is_contiguous()
    for indices, stages in ((1, [1]), ([-1], [1]), ([0], [0]), ((1, 0), [0, 1])):
        last, chosen = model.forward_intermediates(image, indices, stop_early=True)
        assert all(torch.equal(a, plain[i]) for a, i in zip(chosen, stages, strict=True))
        assert torch.equal(last.permute(0, 3, 1, 2), maps[stages[-1]])


@pytest.mark.supported
@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(indices=[2]), 'indices must be stages from -2 to 1'),
        (dict(indices=3), r'got \[-3, -2, -1\]'),
        (dict(indices=[]), 'indices must be'),
        (dict(indices=[0], norm=True), r'norm of stage 0, but only the stages of out_indices=\(1,\)'),
        (dict(output_fmt='NHWC'), "use 'NCHW'"),
    ],
)
def test_forward_intermediates_rejects_invalid_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SwinTransformer(**{**SMALL, 'out_indices': (1,)}).forward_intermediates(torch.randn(1, 3, 32, 32), **arguments)


@pytest.mark.supported
@pytest.mark.parametrize(
    ('name', 'version', 'window', 'trained'),
    [
        ('swin_b_384_in22k', 1, (12, 12), (0, 0, 0, 0)),
        ('swinv2_b_in22k_ft_in1k_w24', 2, (24, 24), (12, 12, 12, 6)),
        ('upernet_swin_b_160k', 1, (7, 7), (0, 0, 0, 0)),
    ],
)
def test_create_model_builds_the_backbone_of_published_weights(
    name: str, version: int, window: tuple[int, int], trained: tuple[int, ...]
) -> None:
    with torch.device('meta'):
        model = create_model(name, drop_path_rate=0.5, out_indices=(1, 3))
    options = model.options
    assert (options.version, options.embed_dim, options.out_indices) == (version, 128, (1, 3))
    assert options.windows == (window,) * 4 and options.pretrained_window_sizes == trained
    assert options.drop_path(3, 1) == 0.5


@pytest.mark.supported
def test_create_model_loads_published_weights_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    monkeypatch.setattr('swin_backbone.backbones.create.load_pretrained', lambda _, name: loaded.append(name))
    sizes: dict[str, Any] = dict(embed_dim=12, depths=(1,), num_heads=(1,), out_indices=(0,))
    create_model('swin_t_in1k', **sizes)
    assert not loaded
    create_model('swin_t_in1k', pretrained=True, **sizes)
    assert loaded == ['swin_t_in1k']
    with pytest.raises(InputError, match='neither a file nor a published name: names are like'):
        create_model('swin_tiny_patch4_window7_224')


def test_layer_depth_ignores_prefixes_of_wrappers() -> None:
    model = SwinTransformer(**SMALL)
    for name in ('layers.0._fsdp_wrapped_module.blocks.1.norm1.weight', '_orig_mod.layers.0.blocks.1.norm1.weight'):
        assert model.get_layer_depth(name) == model.get_layer_depth('layers.0.blocks.1.norm1.weight') == (2, 5)


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        (dict(pretrained=True), 'call load_pretrained'),
        (dict(img_size=384), 'any image size works'),
        (dict(in_chans=4), 'use in_channels'),
        (dict(num_classes=10), 'has no classifier'),
        (dict(features_only=True), 'returns feature maps'),
    ],
)
def test_arguments_of_timm_raise_an_error_with_advice(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        SwinTransformer('tiny', **options)


@pytest.mark.parametrize(
    ('image', 'sentence'),
    [
        (np.zeros((1, 3, 32, 32), np.float32), r'got ndarray: convert it with torch\.from_numpy'),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), 'got uint8: convert the image to float'),
        (torch.zeros(3, 32, 32), r'got \(3, 32, 32\)'),
    ],
)
def test_invalid_images_raise_input_error(image: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        SwinTransformer(**SMALL)(image)


@pytest.mark.supported
def test_fx_tracing_raises_input_error() -> None:
    with pytest.raises(InputError, match=r'torch\.fx cannot trace this backbone'):
        torch.fx.symbolic_trace(SwinTransformer(**SMALL))
