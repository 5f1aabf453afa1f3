"""MMSwinTransformer without the toolkits: arguments, parameter names, and conversion of weights."""

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from swin_backbone import InputError, SwinTransformer, load_pretrained
from swin_backbone.backbones.mm_swin import MMSwinTransformer
from tests.helpers import TINY, randomize, relative_error

SMALL: dict[str, Any] = dict(
    embed_dims=16, depths=[2, 2, 2, 2], num_heads=[1, 2, 4, 8], window_size=4, drop_path_rate=0.0
)
SAME: dict[str, Any] = dict(TINY, window_size=4)
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    'overlapping patches': (dict(strides=(2, 2, 2, 2)), r'strides=\(2, 2, 2, 2\) must be patch_size \(4\)'),
    'merging by 1': (dict(strides=(4, 2, 2, 1)), 'merging halves the map'),
    'few strides': (dict(strides=(4, 2)), 'then 2 for each of the other 3 stages'),
    'oblong patches': (dict(patch_size=(4, 2)), 'is not square'),
    'another activation': (dict(act_cfg=dict(type='ReLU')), r"use dict\(type='GELU'\)"),
    'an approximation': (dict(act_cfg=dict(type='GELU', approximate='tanh')), r"use dict\(type='GELU'\)"),
    'no activation': (dict(act_cfg='GELU'), 'act_cfg must be a dict with the type'),
    'another norm': (dict(norm_cfg=dict(type='BN')), r"use dict\(type='LN'\)"),
    'an option of norms': (dict(norm_cfg=dict(type='LN', elementwise_affine=False)), 'with eps and requires_grad'),
    'two sources': (dict(pretrained='a.pth', init_cfg=dict(type='Pretrained', checkpoint='b.pth')), 'give only'),
    'a source': (dict(pretrained=True), 'pretrained=True'),
    'a number of depths': (dict(depths=2), 'depths must be a sequence'),
    'channels': (dict(embed_dims=0), 'embed_dims must be a positive integer'),
    'outputs': (dict(out_indices=(0, 4)), 'out_indices must be ascending stages'),
}


def small(**overrides: Any) -> MMSwinTransformer:
    return randomize(MMSwinTransformer(**{**SMALL, **overrides})).eval()


def same_maps(one: nn.Module, other: nn.Module, channels: int = 3) -> float:
    image = torch.randn(2, channels, 61, 83)
    with torch.no_grad():
        return max(relative_error(a, b) for a, b in zip(one.eval()(image), other.eval()(image), strict=True))


@pytest.mark.parametrize(('arguments', 'message'), REFUSED.values(), ids=REFUSED)
def test_unsupported_arguments_raise_input_error(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        MMSwinTransformer(**{**SMALL, **arguments})


@pytest.mark.parametrize(
    'arguments',
    [
        dict(patch_size=[4, 4], strides=[[4, 4], 2, 2, 2], pretrain_img_size=[224]),
        dict(depths=[2, 2], num_heads=[1, 2, 4, 8], out_indices=[1, 0]),
        dict(act_cfg=dict(type=nn.GELU), norm_cfg=dict(type=nn.LayerNorm, eps=1e-6)),
        dict(act_cfg=dict(type='torch.nn.modules.activation.GELU'), norm_cfg=dict(type='LN', requires_grad=True)),
        dict(convert_weights=True, mlp_ratio=4, with_cp=True, in_channels=6),
    ],
)
def test_accepted_arguments(arguments: dict[str, Any]) -> None:
    model = small(**arguments)
    maps = model(torch.randn(1, arguments.get('in_channels', 3), 33, 47))
    assert [m.shape[1] for m in maps] == [16 * 2**i for i in sorted(arguments.get('out_indices', range(4)))]
    assert model.patch_embed.norm.eps == arguments.get('norm_cfg', {}).get('eps', 1e-5)


def test_norm_cfg_can_freeze_norms() -> None:
    model = small(norm_cfg=dict(type='LN', requires_grad=False))
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name, _ in model.named_parameters() if 'norm' in name}


def test_pretrained_warns_and_becomes_init_cfg() -> None:
    with pytest.warns(UserWarning, match='pretrained is deprecated'):
        model = MMSwinTransformer(**SMALL, pretrained='swin.pth')
    assert model.init_cfg == dict(type='Pretrained', checkpoint='swin.pth')


def test_parameters_have_the_names_of_the_toolkits() -> None:
    names = list(small(depths=[1, 1], out_indices=(1,)).state_dict())
    block = ['norm1.weight', 'norm1.bias', 'attn.w_msa.relative_position_bias_table']
    block += ['attn.w_msa.relative_position_index', 'attn.w_msa.qkv.weight', 'attn.w_msa.qkv.bias']
    block += ['attn.w_msa.proj.weight', 'attn.w_msa.proj.bias', 'norm2.weight', 'norm2.bias', 'ffn.layers.0.0.weight']
    block += ['ffn.layers.0.0.bias', 'ffn.layers.1.weight', 'ffn.layers.1.bias']
    assert names == [
        *(f'patch_embed.{name}' for name in ('projection.weight', 'projection.bias', 'norm.weight', 'norm.bias')),
        *(f'stages.0.blocks.0.{name}' for name in block),
        *(f'stages.0.downsample.{name}' for name in ('norm.weight', 'norm.bias', 'reduction.weight')),
        *(f'stages.1.blocks.0.{name}' for name in block),
        'norm1.weight',
        'norm1.bias',
    ]


@pytest.mark.parametrize('absolute', [False, True])
@pytest.mark.parametrize('way', ['load_pretrained', 'load_state_dict'])
def test_weights_load_into_swin_transformer_and_back(way: str, absolute: bool) -> None:
    reference = small(use_abs_pos_embed=absolute, pretrain_img_size=(64, 96))
    position = 'absolute+relative' if absolute else 'relative'
    ours = SwinTransformer(**SAME, position_encoding=position, pretrain_img_size=(64, 96))
    copies = small(use_abs_pos_embed=absolute, pretrain_img_size=(64, 96))
    for source, target in ((reference, ours), (ours, copies)):
        if way == 'load_pretrained':
            assert load_pretrained(target, source.state_dict()).complete
        else:
            target.load_state_dict(source.state_dict(), strict=True)
        assert same_maps(source, target) < 1e-5
    state = reference.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in copies.state_dict().items())


def test_weights_of_another_window_load() -> None:
    reference, ours = small(window_size=7), small()
    ours.load_state_dict(reference.state_dict(), strict=True)
    assert ours.state_dict()['stages.0.blocks.0.attn.w_msa.relative_position_index'].shape == (16, 16)
    native = SwinTransformer(**SAME)
    native.load_state_dict(reference.state_dict(), strict=True)
    assert same_maps(ours, native) < 1e-5


def test_state_dict_may_lack_indices_but_not_weights() -> None:
    state = {name: value for name, value in small().state_dict().items() if 'index' not in name}
    small().load_state_dict(state, strict=True)
    del state['stages.1.blocks.1.norm2.bias']
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "stages.1.blocks.1.norm2.bias"\.'):
        small().load_state_dict(state, strict=True)


def test_fifth_stage_keeps_initial_weights(caplog: pytest.LogCaptureFixture) -> None:
    five = dict(depths=[2, 2, 2, 2, 1], num_heads=[1, 2, 4, 8, 16], strides=(4, 2, 2, 2, 2), out_indices=(1, 2, 3, 4))
    model, file = small(**five), small().state_dict()
    before = copy.deepcopy(model.state_dict())
    with caplog.at_level(logging.INFO, 'swin_backbone'):
        report = load_pretrained(model, file)
    added = [name for name, value in model.named_parameters() if torch.equal(value, before[name])]
    assert {name.rpartition('.')[0].partition('.blocks')[0] for name in added} == {
        'stages.3.downsample.norm', 'stages.3.downsample.reduction', 'stages.4', 'norm4'
    }  # fmt: skip
    assert len(report.new) == len(added) and not report.missing
    assert 'the file has 4 stages: stage 4 starts untrained' in caplog.text
    native = SwinTransformer(**dict(SAME, depths=five['depths'], num_heads=five['num_heads']), out_indices=(1, 2, 3, 4))
    with pytest.raises(InputError, match='missing'):
        load_pretrained(native, file)
    assert load_pretrained(native, file, strict=False).missing


@pytest.mark.parametrize('config', [dict, lambda **c: [c], lambda **c: [dict(type='Normal', layer='Conv2d'), c]])
@pytest.mark.parametrize('kind', ['Pretrained', 'mmengine.model.PretrainedInit'])
def test_init_cfg_loads_weights(config: Any, kind: str, tmp_path: Path) -> None:
    pytest.importorskip('mmengine')
    file = small().state_dict()
    torch.save(dict(state_dict={f'backbone.{name}': value for name, value in file.items()}), tmp_path / 'swin.pth')
    model = MMSwinTransformer(**SMALL, init_cfg=config(type=kind, checkpoint=str(tmp_path / 'swin.pth')))
    model.init_weights()
    assert model.load_report is not None and model.load_report.complete
    assert all(torch.equal(value, file[name]) for name, value in model.state_dict().items())


def test_init_cfg_with_strict_false_loads_matching_weights(tmp_path: Path) -> None:
    torch.save(small(depths=[2, 2, 1, 2]).state_dict(), tmp_path / 'swin.pth')
    config = dict(type='Pretrained', checkpoint=str(tmp_path / 'swin.pth'))
    with pytest.raises(InputError, match=r'embed_dims=16, depths=\(2, 2, 1, 2\), num_heads=\(1, 2, 4, 8\)'):
        MMSwinTransformer(**SMALL, init_cfg=config).init_weights()
    model = MMSwinTransformer(**SMALL, init_cfg=dict(config, strict=False))
    model.init_weights()
    assert model.load_report is not None and model.load_report.missing


def test_layer_depths_equal_those_of_swin_transformer() -> None:
    reference, ours = small(), SwinTransformer(**SAME)
    assert len(list(reference.named_parameters())) == len(list(ours.named_parameters()))
    depths = [[model.get_layer_depth(name) for name, _ in model.named_parameters()] for model in (reference, ours)]
    assert sorted(depths[0]) == sorted(depths[1])


def test_stages_after_the_last_output_are_built() -> None:
    model = small(out_indices=(0, 1))
    assert len(model(torch.randn(1, 3, 40, 40))) == 2
    model.load_state_dict(small(out_indices=(0, 1)).state_dict(), strict=True)
    assert len(model.layers) == 4


def test_swin_transformer_suggests_the_class_for_toolkit_arguments() -> None:
    with pytest.raises(InputError, match=r'^embed_dims, strides are arguments.*swin_backbone\.MMSwinTransformer'):
        SwinTransformer(embed_dims=96, strides=(4, 2, 2, 2))
    with pytest.raises(TypeError, match="unexpected keyword argument 'embeddim'"):
        SwinTransformer(embeddim=96)
