"""The switches of the paper's Tables 4 to 6 through the whole network."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from swin_backbone import SwinTransformer, load_pretrained
from swin_backbone.errors import InputError
from tests.helpers import TINY, relative_error, tiny_backbone

SWITCHES = [dict(position_encoding='relative-only')]
SWITCHES_V2 = [dict(position_encoding='relative-only')]
ALL = [*SWITCHES, *(dict(version=2, **options) for options in SWITCHES_V2)]


def name_of(options: dict) -> str:
    return '-'.join(map(str, options.values()))


def total(maps: tuple[Tensor, ...]) -> Tensor:
    """A number whose gradient reaches every entry of the maps, each with another weight."""
    return sum((out.double() * torch.linspace(-1, 1, out.numel()).view_as(out)).sum() for out in maps)


every_switch = pytest.mark.parametrize('options', ALL, ids=name_of)


@every_switch
@pytest.mark.parametrize('size', [(1, 1), (1, 40), (33, 31), (70, 101)])
@pytest.mark.parametrize('window', [7, (4, 3)])
def test_maps_and_gradients_exist_at_any_size(options: dict, size: tuple[int, int], window: object) -> None:
    model = tiny_backbone(**options, window_size=window)
    maps = model(torch.randn(2, 3, *size))
    for index, out in enumerate(maps):
        stride = 4 * 2**index
        assert out.shape == (2, 16 * 2**index, -(-size[0] // stride), -(-size[1] // stride))
        assert out.isfinite().all()
    total(maps).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@every_switch
def test_precisions_modes_and_copies(options: dict) -> None:
    model = tiny_backbone(**options)
    image = torch.randn(2, 3, 61, 47)
    expected = [out.detach() for out in model(image)]
    with torch.no_grad(), torch.inference_mode():
        without = model.eval()(image)
    twin = SwinTransformer(**{**TINY, **options}).eval()
    twin.load_state_dict(model.state_dict())
    for others, allowed in ((without, 2e-5), (copy.deepcopy(model)(image), 2e-5), (twin(image), 2e-5)):
        assert all(relative_error(a, b) < allowed for a, b in zip(others, expected, strict=True))
    with torch.autocast('cpu', torch.bfloat16):
        mixed = model(image)
    assert all(relative_error(a.float(), b) < 0.3 for a, b in zip(mixed, expected, strict=True))
    total(mixed).backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        cast = copy.deepcopy(model).to(dtype)
        for a, b in zip(cast(image), expected, strict=True):
            assert a.dtype == dtype and relative_error(a.float(), b) < 0.3
        total(cast(image)).backward()
        assert all(p.grad.isfinite().all() for p in cast.parameters())


@every_switch
def test_checkpointing_keeps_gradients(options: dict) -> None:
    plain = tiny_backbone(**options)
    thrifty = SwinTransformer(**{**TINY, **options}, with_cp=True)
    thrifty.load_state_dict(plain.state_dict())
    image = torch.randn(1, 3, 64, 50)
    for model in (plain, thrifty):
        total(model(image)).backward()
    for a, b in zip(plain.parameters(), thrifty.parameters(), strict=True):
        assert relative_error(b.grad, a.grad) < 1e-4


@every_switch
def test_dropout_on_attention_weights_acts_in_training_only(options: dict) -> None:
    model = tiny_backbone(**options, attn_drop_rate=0.5)
    image = torch.randn(1, 3, 40, 40)
    assert not torch.equal(model(image)[3], model(image)[3])
    model.eval()
    assert torch.equal(model(image)[3], model(image)[3])


@every_switch
def test_state_dict_holds_parameters_only(options: dict) -> None:
    model = tiny_backbone(**options)
    model(torch.randn(1, 3, 32, 32))
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}


@every_switch
@pytest.mark.parametrize('toolkit', ['mmdet', 'mmseg'])
def test_both_toolkits_build_every_switch(options: dict, toolkit: str) -> None:
    registry = pytest.importorskip(f'{toolkit}.registry')
    model = registry.MODELS.build(dict(type='swin_backbone.SwinTransformer', **TINY, **options))
    assert len(model(torch.randn(1, 3, 33, 40))) == 4


def flops(model: nn.Module, image: Tensor) -> int:
    """Multiply-adds of a forward pass."""
    counter = FlopCounterMode(display=False)
    with counter:
        model(image)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize('version', [1, 2])
def test_relative_only_has_neither_queries_nor_keys(version: int) -> None:
    sizes = dict(depths=(2,), num_heads=(2,), out_indices=(0,), window_size=4, version=version)
    full = tiny_backbone(**sizes, backend='eager')
    values = tiny_backbone(**sizes, position_encoding='relative-only')
    attn = values.layers[0].blocks[0].attn
    assert attn.qkv.weight.shape == (16, 16) and not hasattr(attn, 'logit_scale') and not hasattr(attn, 'q_bias')
    tokens, tokens_of_a_window, blocks = 8 * 8, 16, 2
    saved = blocks * tokens * (2 * 16 * 16 + tokens_of_a_window * 16)  # their projections and their products
    image = torch.randn(1, 3, 32, 32)
    assert flops(full, image) - flops(values, image) == saved


@pytest.mark.parametrize('version', [1, 2])
def test_relative_only_takes_the_value_rows_of_a_full_file(version: int) -> None:
    full = tiny_backbone(version=version)
    values = SwinTransformer(**TINY, version=version, position_encoding='relative-only')
    report = load_pretrained(values, full.state_dict())
    ours, theirs = values.layers[1].blocks[0].attn, full.layers[1].blocks[0].attn
    assert torch.equal(ours.qkv.weight, theirs.qkv.weight[64:])
    assert torch.equal(ours.v_bias, theirs.v_bias) if version == 2 else torch.equal(ours.qkv.bias, theirs.qkv.bias[64:])
    assert report.adapted['layers.1.blocks.0.attn.qkv.weight'] == 'values only, queries and keys left out'
    assert 'queries and keys left out' in str(report) and report.version == version
    assert len(report.loaded) == report.total
    if version == 2:
        assert {'layers.0.blocks.0.attn.logit_scale', 'layers.0.blocks.0.attn.q_bias'} <= set(report.dropped)
    other = SwinTransformer(**TINY, version=version, position_encoding='relative-only')
    other.load_state_dict(full.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(values.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize('version', [1, 2])
def test_relative_only_files_are_recognised(version: int) -> None:
    values = tiny_backbone(version=version, position_encoding='relative-only')
    other = SwinTransformer(**TINY, version=version, position_encoding='relative-only')
    report = load_pretrained(other, {'state_dict': {f'backbone.{k}': v for k, v in values.state_dict().items()}})
    assert report.complete and not report.adapted and report.version == version
    with pytest.raises(InputError, match=r"needs a backbone built with position_encoding='relative-only'"):
        load_pretrained(tiny_backbone(version=version), values.state_dict())


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(position_encoding='relative-only', backend='sdpa'), "leave backend='auto'"),
    ],
)
def test_switches_that_do_not_fit_each_other_are_refused_in_a_sentence(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message), torch.device('meta'):
        SwinTransformer(**options)
