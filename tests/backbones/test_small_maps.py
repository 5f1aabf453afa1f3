"""small_maps='shrink': on maps no larger than a window, windows shrink and are not shifted."""

from typing import Any

import pytest
import torch
from torch import Tensor

from swin_backbone import InputError, SwinTransformer
from swin_backbone.attention.window import AttentionOptions, CosineWindowAttention, WindowAttention
from swin_backbone.attention.window_plan import WindowPlan
from swin_backbone.export import export_program
from tests.helpers import randomize, relative_error, tiny_backbone

HEADS, DIM = 2, 4
PLANS = {
    # (map, window): the shrunk window, and whether shifted blocks shift the map
    ((9, 8), (7, 7)): ((7, 7), True),
    ((7, 7), (7, 7)): ((7, 7), False),
    ((5, 5), (7, 7)): ((5, 5), False),
    ((5, 14), (7, 7)): ((5, 5), False),
    ((14, 7), (7, 7)): ((7, 7), False),
    ((1, 1), (7, 7)): ((1, 1), False),
    ((8, 6), (4, 6)): ((4, 6), False),
    ((3, 9), (4, 8)): ((3, 3), False),
}


@pytest.mark.parametrize(('size', 'window'), PLANS)
def test_shrunk_plan_follows_the_rule(size: tuple[int, int], window: tuple[int, int]) -> None:
    plan = WindowPlan(*size, window).shrunk()
    chosen, shifts = PLANS[size, window]
    assert plan.window == plan.padded().window == chosen
    assert plan.shift == plan.padded().shift == ((chosen[0] // 2, chosen[1] // 2) if shifts else (0, 0))


def attend_by_definition(attention: Any, x: Tensor, side: int, pretrained: int) -> Tensor:
    """Compute attention in the single window of ``x`` ``[B, side, side, C]``, with biases pair by pair."""
    bias = torch.empty(HEADS, side**2, side**2, dtype=x.dtype)
    for query in range(side**2):
        for key in range(side**2):
            offset = (query // side - key // side, query % side - key % side)
            if attention.cpb_mlp is None:
                full = attention.window[0]
                row = (offset[0] + full - 1) * (2 * full - 1) + offset[1] + full - 1
                bias[:, query, key] = attention.relative_position_bias_table[row]
            else:
                scaled = torch.tensor(offset, dtype=x.dtype) * 8 / (pretrained - 1)
                spaced = scaled.sign() * (scaled.abs() + 1).log2() / 3
                bias[:, query, key] = 16 * attention.cpb_mlp(spaced).sigmoid()
    q, k, v = attention.project(x.flatten(1, 2)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
    weights = (q @ k.mT * attention.logit_scale_factor() + bias).softmax(-1)
    return attention.proj((weights @ v).transpose(1, 2).reshape(x.shape))


@pytest.mark.parametrize('side', [3, 4])
@pytest.mark.parametrize('backend', ['auto', 'sdpa', 'eager'])
@pytest.mark.parametrize(
    ('kind', 'pretrained'), [(WindowAttention, 0), (CosineWindowAttention, 0), (CosineWindowAttention, 5)]
)
def test_attention_in_shrunk_windows_equals_the_definition(
    kind: type[WindowAttention], pretrained: int, backend: str, side: int
) -> None:
    bias = 'table' if kind is WindowAttention else 'log'
    options = AttentionOptions(
        HEADS * DIM, (4, 4), HEADS, backend=backend, position_bias=bias, pretrained_window=(pretrained, pretrained)
    )
    attention = randomize(kind(options)).double()
    results = []
    for plan in (None, WindowPlan(side, side, (4, 4)).shrunk()):
        torch.manual_seed(1)
        x = torch.randn(2, side, side, HEADS * DIM, dtype=torch.float64, requires_grad=True)
        out = attend_by_definition(attention, x, side, pretrained or side) if plan is None else attention(x, plan, True)
        gradients = torch.autograd.grad((out * torch.randn_like(out)).sum(), [x, *attention.parameters()])
        results.append([out, *gradients])
    for reference, ours in zip(*results, strict=True):
        assert relative_error(ours, reference) < 1e-5  # coordinates are computed in float32


WINDOW = 6
SIZES = {96: (6, 6, 6, 3), 160: (6, 6, 6, 5), (64, 128): (6, 6, 4, 2)}
"""Sides of an image, and the shrunk windows of the stages."""


def twin(model: SwinTransformer, size: tuple[int, int], windows: tuple[int, ...]) -> SwinTransformer:
    """Build ``model`` with explicit windows for one image size, and without shifts in stages that do not shift."""
    version = model.options.version
    trained = tuple(own or side for own, side in zip(model.options.pretrained_window_sizes, windows, strict=True))
    other = tiny_backbone(
        version=version,
        window_size=[(side, side) for side in windows],
        pretrained_window_sizes=trained,
        backend='eager',
    )
    state = dict(model.state_dict())
    for name, table in state.items():
        if name.endswith('bias_table'):
            cut, side = WINDOW - windows[int(name.split('.')[1])], 2 * WINDOW - 1
            state[name] = table.view(side, side, -1)[cut : side - cut, cut : side - cut].flatten(0, 1)
    other.load_state_dict(state)
    for index, stage in enumerate(other.layers):
        if min(size) // 4 // 2**index <= WINDOW:
            for block in stage.blocks:
                block.shifted = False
    return other


def maps_and_gradients(model: SwinTransformer, image: Tensor) -> list[Tensor]:
    image = image.clone().requires_grad_()
    maps = model(image)
    torch.manual_seed(2)
    sum((out * torch.randn_like(out)).sum() for out in maps).backward()
    assert image.grad is not None
    return [
        *maps,
        image.grad,
        *(p.grad for name, p in model.named_parameters() if 'table' not in name and p.grad is not None),
    ]


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize(('version', 'pretrained'), [(1, 0), (2, 0), (2, 5)])
def test_backbone_equals_one_with_explicit_window_sizes(size: Any, version: int, pretrained: int) -> None:
    shape = size if isinstance(size, tuple) else (size, size)
    options: dict[str, Any] = dict(version=version, window_size=WINDOW, small_maps='shrink')
    model = tiny_backbone(**options, pretrained_window_sizes=(pretrained,) * 4).double().eval()
    expected = twin(model, shape, SIZES[size]).double().eval()
    image = torch.randn(5, 3, *shape, dtype=torch.float64)
    for ours, reference in zip(maps_and_gradients(model, image), maps_and_gradients(expected, image), strict=True):
        assert relative_error(ours, reference) < 1e-9
    maps = expected(image)
    with torch.no_grad():
        for ours, reference in zip(model.float()(image.float()), maps, strict=True):  # in groups of windows
            assert relative_error(ours.double(), reference) < 1e-5


@pytest.mark.parametrize(
    'changes',
    [dict(position_encoding='relative-only'), dict(attention_method='shifted-padding'), dict(sequential=(2, 3))],
)
@pytest.mark.parametrize('version', [1, 2])
def test_other_attention_methods_shrink_windows(version: int, changes: dict[str, Any]) -> None:
    """The reference has windows as large as the map, and no shifts."""
    options: dict[str, Any] = dict(version=version, window_size=4, small_maps='shrink', **changes)
    model = tiny_backbone(**options).eval()
    rigid = tiny_backbone(
        **{**options, 'small_maps': 'pad', 'shift': False, 'window_size': [(4, 4), (4, 4), (4, 4), (2, 2)]}
    )
    state = dict(model.state_dict())
    for name in state:
        if name.startswith('layers.3') and name.endswith('bias_table'):
            state[name] = state[name].view(7, 7, -1)[2:5, 2:5].flatten(0, 1)
    rigid.load_state_dict(state)
    x = torch.randn(2, 4, 4, 64), torch.randn(2, 2, 2, 128)
    for stage, tokens in zip((2, 3), x, strict=True):
        assert relative_error(model.layers[stage](tokens), rigid.eval().layers[stage](tokens)) < 1e-5


@pytest.mark.parametrize('version', [1, 2])
def test_exported_and_compiled_maps_are_equal_for_shrunk_windows(version: int) -> None:
    one_stage: dict[str, Any] = dict(depths=(2,), num_heads=(1,), out_indices=(0,))
    model = tiny_backbone(version=version, window_size=4, small_maps='shrink', **one_stage).eval()
    image = torch.randn(1, 3, 12, 12)
    with torch.no_grad():
        recorded = export_program(model, (12, 12), dynamic=False).module()(image)
        compiled = torch.compile(model, backend='aot_eager')(image)
        assert max(relative_error(maps[0], model(image)[0]) for maps in (recorded, compiled)) < 1e-5


def test_small_maps_default_and_errors() -> None:
    assert SwinTransformer(None, embed_dim=8, depths=(1,), num_heads=(1,), out_indices=(0,)).options.small_maps == 'pad'
    with pytest.raises(InputError, match="unknown small_maps 'crop'"):
        tiny_backbone(small_maps='crop')
    with pytest.raises(InputError, match='does not have'):
        tiny_backbone(small_maps='shrink', attention_method='performer')
    with pytest.raises(InputError, match='dynamic=False'):
        export_program(tiny_backbone(small_maps='shrink'), (64, 64))
