"""The ablation switches of the paper's Tables 4 to 6 in whole backbones."""

import copy
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from swin_backbone import SwinTransformer, load_pretrained
from swin_backbone.attention.performer import redraw_features
from swin_backbone.attention.window_plan import WindowPlan
from swin_backbone.checkpoint.export import convert_file
from swin_backbone.errors import InputError
from swin_backbone.inspection.features import attention_of
from swin_backbone.model_zoo.complexity import STAND_INS
from tests.helpers import TINY, relative_error, tiny_backbone

SWITCHES = [
    dict(position_encoding='relative-only'),
    dict(position_encoding='relative-only', attention_method='shifted-padding'),
    dict(attention_method='shifted-padding'),
    dict(attention_method='sliding-naive'),
    dict(attention_method='sliding-kernel'),
]
PERFORMER = dict(attention_method='performer')
ALL = [*SWITCHES, *(dict(version=2, **options) for options in SWITCHES), PERFORMER]


def name_of(options: dict) -> str:
    return '-'.join(map(str, options.values()))


def total(maps: tuple[Tensor, ...]) -> Tensor:
    """Return the weighted sum of the maps, with a different weight for every entry."""
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
def test_maps_are_close_in_other_precisions_modes_and_copies(options: dict) -> None:
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
def test_with_cp_does_not_change_gradients(options: dict) -> None:
    plain = tiny_backbone(**options)
    thrifty = SwinTransformer(**{**TINY, **options}, with_cp=True)
    thrifty.load_state_dict(plain.state_dict())
    image = torch.randn(1, 3, 64, 50)
    for model in (plain, thrifty):
        total(model(image)).backward()
    for a, b in zip(plain.parameters(), thrifty.parameters(), strict=True):
        assert relative_error(b.grad, a.grad) < 1e-4


@pytest.mark.parametrize('options', ALL[:-1], ids=name_of)
def test_dropout_on_attention_weights_acts_in_training_only(options: dict) -> None:
    model = tiny_backbone(**options, attn_drop_rate=0.5)
    image = torch.randn(1, 3, 40, 40)
    assert not torch.equal(model(image)[3], model(image)[3])
    model.eval()
    assert torch.equal(model(image)[3], model(image)[3])


@every_switch
def test_state_dict_contains_only_parameters(options: dict) -> None:
    model = tiny_backbone(**options)
    model(torch.randn(1, 3, 32, 32))
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}


@every_switch
@pytest.mark.parametrize('toolkit', ['mmdet', 'mmseg'])
def test_both_toolkits_build_every_ablation_switch(options: dict, toolkit: str) -> None:
    registry = pytest.importorskip(f'{toolkit}.registry')
    model = registry.MODELS.build(dict(type='swin_backbone.SwinTransformer', **TINY, **options))
    assert len(model(torch.randn(1, 3, 33, 40))) == 4


def flops(model: nn.Module, image: Tensor) -> int:
    """Count the multiply-adds of a forward pass."""
    counter = FlopCounterMode(display=False)
    with counter:
        model(image)
    return counter.get_total_flops() // 2


def test_attention_of_equals_the_cyclic_shift_or_raises() -> None:
    image = torch.randn(1, 3, 61, 47)
    model = tiny_backbone()
    padding = SwinTransformer(**TINY, attention_method='shifted-padding')
    padding.load_state_dict(model.state_dict())
    ours, reference = (attention_of(net, image, (30, 20), stage=0, block=1) for net in (padding, model))
    assert torch.equal(ours.weights, reference.weights)
    for options in (SWITCHES[0], SWITCHES[3], PERFORMER):
        with pytest.raises(InputError, match='no queries and keys in windows'):
            attention_of(tiny_backbone(**options), image, (30, 20), stage=0, block=1)


@pytest.mark.parametrize('version', [1, 2])
def test_relative_only_has_no_queries_and_keys(version: int) -> None:
    sizes = dict(depths=(2,), num_heads=(2,), out_indices=(0,), window_size=4, version=version)
    full = tiny_backbone(**sizes, backend='eager')
    values = tiny_backbone(**sizes, position_encoding='relative-only')
    attn = values.layers[0].blocks[0].attn
    assert attn.qkv.weight.shape == (16, 16) and not hasattr(attn, 'logit_scale') and not hasattr(attn, 'q_bias')
    tokens, tokens_of_a_window, blocks = 8 * 8, 16, 2
    saved = blocks * tokens * (2 * 16 * 16 + tokens_of_a_window * 16)  # projections and products of queries and keys
    image = torch.randn(1, 3, 32, 32)
    assert flops(full, image) - flops(values, image) == saved


def test_flop_count_of_sliding_kernel_equals_that_of_sliding_naive() -> None:
    plan, x = WindowPlan(8, 8, (4, 4)), torch.randn(1, 8, 8, 16)
    counts = []
    for method in ('sliding-naive', 'sliding-kernel'):
        attn = tiny_backbone(window_size=4, attention_method=method).layers[0].blocks[0].attn
        attn.forward = partial(STAND_INS['swin_backbone.SlidingAttention'], attn)
        with FlopCounterMode(display=False) as counter:
            attn(x, plan, False)
        counts.append(counter.get_total_flops() // 2)
    assert counts == [64 * (4 * 16**2 + 2 * 16 * 16)] * 2


@pytest.mark.parametrize('version', [1, 2])
def test_relative_only_loads_the_value_rows_of_full_attention(version: int) -> None:
    full = tiny_backbone(version=version)
    values = SwinTransformer(**TINY, version=version, position_encoding='relative-only')
    report = load_pretrained(values, full.state_dict())
    ours, reference = values.layers[1].blocks[0].attn, full.layers[1].blocks[0].attn
    assert torch.equal(ours.qkv.weight, reference.qkv.weight[64:])
    assert (
        torch.equal(ours.v_bias, reference.v_bias)
        if version == 2
        else torch.equal(ours.qkv.bias, reference.qkv.bias[64:])
    )
    assert report.adapted['layers.1.blocks.0.attn.qkv.weight'] == 'values only, queries and keys dropped'
    assert 'queries and keys dropped' in str(report) and report.version == version
    assert len(report.loaded) == report.total
    if version == 2:
        assert {'layers.0.blocks.0.attn.logit_scale', 'layers.0.blocks.0.attn.q_bias'} <= set(report.dropped)
    other = SwinTransformer(**TINY, version=version, position_encoding='relative-only')
    other.load_state_dict(full.state_dict(), strict=False)  # V2's queries and scales are unexpected keys
    assert all(torch.equal(a, b) for a, b in zip(values.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize('version', [1, 2])
def test_relative_only_checkpoints_are_detected(version: int) -> None:
    values = tiny_backbone(version=version, position_encoding='relative-only')
    other = SwinTransformer(**TINY, version=version, position_encoding='relative-only')
    report = load_pretrained(other, {'state_dict': {f'backbone.{k}': v for k, v in values.state_dict().items()}})
    assert report.complete and not report.adapted and report.version == version
    with pytest.raises(InputError, match=r"needs a backbone built with position_encoding='relative-only'"):
        load_pretrained(tiny_backbone(version=version), values.state_dict())


def same_weights(options: dict, methods: tuple[str, ...], image: Tensor) -> list[list[Tensor]]:
    """Return maps and all gradients of backbones that differ only in the attention method."""
    model = tiny_backbone(**options, attention_method=methods[0]).double()
    results = []
    for method in methods:
        twin = SwinTransformer(**{**TINY, **options}, attention_method=method).double()
        twin.load_state_dict(model.state_dict())
        inputs = image.clone().requires_grad_()
        maps = twin(inputs)
        total(maps).backward()
        results.append([*(out.detach() for out in maps), inputs.grad, *(p.grad for p in twin.parameters())])
    return results


@pytest.mark.parametrize('version', [1, 2])
@pytest.mark.parametrize('methods', [('shifted-cyclic', 'shifted-padding'), ('sliding-naive', 'sliding-kernel')])
@pytest.mark.parametrize('window', [7, 4, (3, 6)])
def test_equivalent_methods_give_equal_maps_and_gradients(
    version: int, methods: tuple[str, ...], window: object
) -> None:
    for size in ((1, 1), (61, 47), (70, 131)):
        image = torch.randn(1, 3, *size, dtype=torch.float64)
        reference, ours = same_weights(dict(version=version, window_size=window), methods, image)
        for a, b in zip(ours, reference, strict=True):
            assert (a - b).abs().max() <= 1e-9 * b.abs().max().clamp_min(1.0)


def test_window_is_the_same_as_no_shift() -> None:
    image = torch.randn(1, 3, 61, 47)
    model = tiny_backbone(attention_method='window')
    twin = SwinTransformer(**TINY, shift=False)
    twin.load_state_dict(model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(model(image), twin(image), strict=True))
    padding = SwinTransformer(**TINY, shift=False, attention_method='shifted-padding')
    padding.load_state_dict(model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(padding(image), twin(image), strict=True))


@pytest.mark.parametrize('encoding', ['none', 'absolute', 'absolute+relative'])
@pytest.mark.parametrize('options', [*SWITCHES[3:], dict(version=2, **SWITCHES[4]), PERFORMER], ids=name_of)
def test_position_encodings_combine_with_methods(encoding: str, options: dict) -> None:
    model = tiny_backbone(**options, position_encoding=encoding)
    names = {name.rpartition('.')[2] for name, _ in model.named_parameters()}
    assert ('absolute_pos_embed' in names) == ('absolute' in encoding)
    with_table = 'relative' in encoding and options is not PERFORMER and 'version' not in options
    assert ('relative_position_bias_table' in names) == with_table
    total(model(torch.randn(1, 3, 40, 56))).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_sliding_loads_the_central_offsets_of_a_window_table() -> None:
    """In the middle of a map, the bias between a token and a neighbour is the same as in a window."""
    full = tiny_backbone(window_size=5)
    sliding = SwinTransformer(**TINY, window_size=5, attention_method='sliding-kernel')
    report = load_pretrained(sliding, full.state_dict())
    assert report.adapted['layers.0.blocks.0.attn.relative_position_bias_table'] == 'its central 5x5 offsets'
    ours, reference = (net.layers[2].blocks[0].attn.position_bias() for net in (sliding, full))
    centre = 2 * 5 + 2
    assert torch.equal(ours, reference[:, centre])
    again = SwinTransformer(**TINY, window_size=5, attention_method='sliding-naive')
    assert not load_pretrained(again, sliding.state_dict()).adapted
    wider = SwinTransformer(**TINY, window_size=6, attention_method='sliding-naive')
    report = load_pretrained(wider, full.state_dict())
    assert 'window 5x5 to 6x6, its central 6x6 offsets' in report.adapted.values()


def test_v2_sliding_has_the_biases_of_windows() -> None:
    full = tiny_backbone(version=2, window_size=5)
    sliding = SwinTransformer(**TINY, version=2, window_size=5, attention_method='sliding-naive')
    assert not load_pretrained(sliding, full.state_dict()).adapted
    for model in (full, sliding):
        model.eval()
    with torch.no_grad():
        ours, reference = (net.layers[0].blocks[0].attn.position_bias() for net in (sliding, full))
    assert torch.allclose(ours, reference[:, 12])


def test_performer_loads_full_attention_without_its_bias() -> None:
    model = SwinTransformer(**TINY, **PERFORMER)
    report = load_pretrained(model, tiny_backbone().state_dict())
    assert len(report.loaded) == report.total and 'relative position bias is dropped' in ' '.join(report.warnings)


def test_performer_features_depend_on_the_seed_until_redrawn() -> None:
    model = tiny_backbone(**PERFORMER).eval()
    twin = SwinTransformer(**TINY, **PERFORMER).eval()
    twin.load_state_dict(model.state_dict())
    image = torch.randn(1, 3, 61, 47)
    before = model(image)
    assert all(torch.equal(a, b) for a, b in zip(twin(image), before, strict=True))
    first, second = (model.layers[0].blocks[number].attn.features for number in (0, 1))
    assert not torch.equal(first, second)
    redraw_features(model, seed=5)
    assert not torch.equal(model(image)[0], before[0])
    redraw_features(twin, seed=5)
    assert all(torch.equal(a, b) for a, b in zip(twin(image), model(image), strict=True))


@pytest.mark.parametrize('options', [SWITCHES[1], SWITCHES[4], PERFORMER], ids=name_of)
def test_compiled_without_graph_breaks_equals_eager(options: dict) -> None:
    torch.compiler.reset()  # drop the graphs of other cases
    model = tiny_backbone(**options, depths=(2,), num_heads=(2,), out_indices=(0,)).eval()
    compiled = torch.compile(model, fullgraph=True, backend='aot_eager')
    with torch.no_grad():
        image = torch.randn(1, 3, 45, 70)
        assert relative_error(compiled(image)[0], model(image)[0]) < 1e-5


@pytest.mark.parametrize('options', ALL, ids=name_of)
def test_switches_can_be_built_on_meta(options: dict) -> None:
    with torch.device('meta'):
        model = SwinTransformer(**TINY, **options)
        assert model(torch.empty(1, 3, 61, 47))[0].is_meta


def attention_flops(method: str) -> int:
    """Count the multiply-adds of a stage of two blocks with 8x8 tokens, 2 heads of 8 features and windows of 4x4."""
    sizes = dict(depths=(2,), num_heads=(2,), out_indices=(0,), window_size=4)
    model = tiny_backbone(**sizes, attention_method=method, backend='auto')
    with sdpa_kernel(SDPBackend.MATH):
        return flops(model.layers[0], torch.randn(1, 8, 8, 16))


def test_flops_of_methods_equal_their_formulas() -> None:
    tokens, channels, places, blocks = 64, 16, 16, 2
    dense = blocks * tokens * 12 * channels**2  # projections and MLP
    assert attention_flops('window') == dense + blocks * 2 * tokens * places * channels
    assert attention_flops('shifted-cyclic') == attention_flops('window')
    # the second block has 3x3 windows instead of 2x2
    assert attention_flops('shifted-padding') == dense + 2 * (64 + 144) * places * channels
    assert attention_flops('sliding-naive') == attention_flops('window')
    features = 17  # 8 ln 8
    assert attention_flops('performer') == dense + blocks * tokens * features * (4 * channels + 2)


def test_convert_file_rejects_checkpoints_without_queries_and_keys(tmp_path: Path) -> None:
    torch.save(tiny_backbone(position_encoding='relative-only').state_dict(), tmp_path / 'values.pth')
    with pytest.raises(InputError, match='without queries and keys'):
        convert_file(str(tmp_path / 'values.pth'), tmp_path / 'out.pth', 'transformers')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(position_encoding='relative-only', backend='sdpa'), "leave backend='auto'"),
        (dict(position_encoding='relative-only', attention_method='performer'), 'needs windows'),
        (dict(position_encoding='relative-only', attention_method='sliding-naive'), 'needs windows'),
        (dict(attention_method='sliding-kernel', backend='eager'), "leave backend='auto'"),
        (dict(attention_method='performer', backend='sdpa'), "leave backend='auto'"),
        (dict(attention_method='sliding-naive', shift=False), 'leave shift=True'),
        (dict(attention_method='performer', version=2), 'use version=1'),
        (dict(attention_method='performer', attn_drop_rate=0.1), 'attn_drop_rate=0'),
    ],
)
def test_incompatible_switches_raise_input_error(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message), torch.device('meta'):
        SwinTransformer(**options)
