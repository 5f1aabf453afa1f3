"""What users of other libraries do with a backbone: create it on meta, ask what it returns, hand it wrong things."""

from typing import Any

import numpy as np
import pytest
import torch

from swin_backbone import InputError, SwinTransformer, load_pretrained
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
def test_a_backbone_from_meta_starts_like_a_new_one(kind: type[SwinTransformer], options: dict[str, Any]) -> None:
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
def test_weights_that_were_loaded_stay(load: Any) -> None:
    state = SwinTransformer(**SMALL).state_dict()
    model = on_meta(SwinTransformer, SMALL)
    load(model, state)
    model.init_weights()
    assert all(torch.equal(model.state_dict()[name], value) for name, value in state.items())


def test_what_a_backbone_returns_in_the_words_of_timm() -> None:
    model = SwinTransformer(**SMALL)
    assert model.feature_info.channels() == [16, 32] and model.feature_info.reduction() == [4, 8]
    exempt = model.no_weight_decay()
    assert exempt == {name for name, _ in model.named_parameters() if 'bias_table' in name}
    model.set_grad_checkpointing()
    assert [stage.with_cp for stage in model.layers] == [True, True]
    model.set_grad_checkpointing(False)
    assert [stage.with_cp for stage in model.layers] == [False, False]


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        (dict(pretrained=True), 'call load_pretrained'),
        (dict(img_size=384), 'any image size works'),
        (dict(in_chans=4), 'called in_channels here'),
        (dict(num_classes=10), 'has no classifier'),
        (dict(features_only=True), 'returns feature maps'),
    ],
)
def test_arguments_of_timm_get_a_hint(options: dict[str, Any], sentence: str) -> None:
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
def test_what_is_no_image_is_refused(image: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        SwinTransformer(**SMALL)(image)


def test_fx_is_refused_with_a_sentence() -> None:
    with pytest.raises(InputError, match=r'torch\.fx cannot trace this backbone'):
        torch.fx.symbolic_trace(SwinTransformer(**SMALL))
