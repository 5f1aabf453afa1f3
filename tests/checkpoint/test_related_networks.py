"""Errors for weights of related networks, other sizes and norms under unknown names."""

import pytest
import torch
from torch import Tensor

from swin_backbone import SwinTransformer, load_pretrained
from swin_backbone.errors import InputError
from swin_backbone.variants import VARIANTS
from tests.helpers import TINY, tiny_backbone

State = dict[str, Tensor]


def native(version: int = 1) -> State:
    return dict(tiny_backbone(version=version, window_size=4).state_dict())


def with_volumes(name: str, state: State) -> State:
    return {**state, name: torch.ones(16, 3, 2, 4, 4)}


def mixture() -> State:
    """Experts in every other block, and an MLP for position biases without a logit scale."""
    return {
        name.replace('blocks.1.mlp.', 'blocks.1.mlp._moe_layer.'): value
        for name, value in native(version=2).items()
        if not name.endswith(('logit_scale', 'q_bias', 'v_bias'))
    }


def unetr(stem: str) -> State:
    names = ('norm1.weight', 'attn.qkv.weight', 'mlp.linear1.weight')
    state = {f'{stem}.blocks.0.{name}': torch.ones(2, 2) for name in names}
    return with_volumes(f'{stem.partition(".layers")[0]}.patch_embed.proj.weight', state)


def restoration() -> State:
    return {f'layers.{i}.residual_group.blocks.0.attn.qkv.weight': torch.ones(18, 6) for i in range(2)}


@pytest.mark.parametrize(
    ('state', 'network'),
    [
        (mixture(), 'a Swin-MoE'),
        (unetr('swinViT.layers1.0'), 'a Swin-UNETR'),
        (unetr('module.swinViT.layers1c.0'), 'a Swin-UNETR'),
        (unetr('encoder.layers1.0.0'), 'a Swin-UNETR'),
        (restoration(), 'a SwinIR'),
    ],
    ids=['mixture', 'unetr', 'unetr v2', 'unetr pre-trained', 'restoration'],
)
def test_related_networks_are_named_in_the_error(state: State, network: str) -> None:
    model = tiny_backbone(window_size=4)
    before = model.layers[0].blocks[0].norm1.weight.clone()
    with pytest.raises(InputError, match=f'^the state dict contains {network}.*Load it with its own code') as error:
        load_pretrained(model, {'model': state})
    assert '\n' not in str(error.value) and torch.equal(model.layers[0].blocks[0].norm1.weight, before)


@pytest.mark.parametrize('name', ['huge', 'giant-simmim', 'giant', 'tiny-c24'])
def test_the_variant_of_a_file_is_named_in_the_error(name: str) -> None:
    known = VARIANTS[name]
    with torch.device('meta'):
        file = SwinTransformer(name, known.versions[0])
        model = SwinTransformer('base', known.versions[0])
    with pytest.raises(InputError, match=f"V{known.versions[0]} {name} .*built with variant='{name}'"):
        load_pretrained(model, dict(file.state_dict()))
    assert load_pretrained(file, dict(file.state_dict())).complete


def test_the_two_giant_variants_have_the_published_parameter_counts() -> None:
    with torch.device('meta'):
        released, paper = (SwinTransformer(name, 2) for name in ('giant-simmim', 'giant'))
    assert [round(sum(p.numel() for p in model.parameters()) / 1e9, 2) for model in (released, paper)] == [1.06, 3.0]


@pytest.mark.parametrize(
    ('name', 'advice'),
    [
        ('huge', r"variant='huge', embed_dim=352.*num_heads=\(8, 16, 32, 64\)"),
        (None, r'variant=None.*\(8, 16, 32, 64\)'),
    ],
)
def test_the_logit_scales_of_a_file_determine_its_heads(name: str | None, advice: str) -> None:
    """No other weight of V2 shows the number of heads; with and without norms on the main branch."""
    sizes = dict(embed_dim=352, depths=(2, 2, 18, 2))
    with torch.device('meta'):
        file = SwinTransformer(name, 2, **sizes, num_heads=(8, 16, 32, 64))
        model = SwinTransformer(name, 2, **sizes, num_heads=(11, 22, 44, 88))
    with pytest.raises(InputError, match=r'heads 8, 16, 32, 64.*heads 11, 22, 44, 88.*logit_scale') as error:
        load_pretrained(model, dict(file.state_dict()))
    assert error.match(advice)


NORMS = [f'{stage}.{kind}' for stage in range(4) for kind in ('weight', 'bias')]


def with_norms(pattern: str, prefix: str = 'backbone.') -> State:
    """Return a detector's state dict with the norms of its stages renamed by ``pattern``."""
    state = tiny_backbone().state_dict()
    body = {prefix + name: value for name, value in state.items() if not name.startswith('norm')}
    return {**body, **{pattern.format(name): state[f'norm{name}'] for name in NORMS}}


@pytest.mark.parametrize(
    ('pattern', 'prefix'),
    [
        ('backbone.out_norms.{}', 'backbone.'),
        ('backbone.outnorm_{}', 'backbone.'),
        ('out_norms.{}', ''),
        ('encoder.norms.stage{}', 'encoder.model.'),
    ],
)
def test_norms_of_stages_under_unknown_names_are_an_error(pattern: str, prefix: str) -> None:
    model, state = tiny_backbone(), with_norms(pattern, prefix)
    with pytest.raises(InputError, match=r'norms of its stages under unknown names, .*rename them to norm0\.weight'):
        load_pretrained(model, state)
    report = load_pretrained(model, state, strict=False)
    assert len(report.strange_norms) == len(report.new) == 8


@pytest.mark.parametrize('pattern', ['neck.lateral.norms.{}', 'head.norms.{}'])
def test_norms_of_other_parts_are_not_output_norms(pattern: str) -> None:
    report = load_pretrained(tiny_backbone(), with_norms(pattern))
    assert report.complete and len(report.new) == 8 and report.beside == 8


def test_numbered_vectors_of_equal_size_are_not_output_norms() -> None:
    state = with_norms('backbone.norm{}')
    body = {name: value for name, value in state.items() if '.norm' not in name or '.layers.' in name}
    body['backbone.patch_embed.norm.weight'] = state['backbone.patch_embed.norm.weight']
    body['backbone.patch_embed.norm.bias'] = state['backbone.patch_embed.norm.bias']
    extra = {f'backbone.gates.{i}.{kind}': torch.ones(16) for i in range(4) for kind in ('weight', 'bias')}
    report = load_pretrained(SwinTransformer(**TINY), {**body, **extra})
    assert report.complete and len(report.new) == 8
