"""Large windows, and a few windows at a time: every kernel compared with eager, forward and gradients."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from swin_backbone import SwinTransformer
from swin_backbone.attention.kernels import large_windows, sequential, window_attention
from swin_backbone.attention.kernels.cpu import attend_in_groups
from swin_backbone.attention.kernels.custom_operator import window_attention_op
from swin_backbone.attention.kernels.window_order import attend_in_windows
from swin_backbone.attention.position_encoding import gather_bias, relative_position_index
from swin_backbone.attention.window_plan import PadShiftPlan, WindowPlan
from swin_backbone.errors import InputError
from tests.helpers import TINY, relative_error, tiny_backbone

HEADS, DIM = 2, 8
Inputs = dict[str, Any]
Kernel = Callable[..., Tensor]


def make_inputs(batch: int, size: tuple[int, int], window: tuple[int, int], heads: int = HEADS) -> Inputs:
    channels = heads * DIM
    return dict(
        qkv=torch.randn(batch, *size, 3 * channels, requires_grad=True),
        table=torch.randn((2 * window[0] - 1) * (2 * window[1] - 1), heads, requires_grad=True),
        pad=torch.randn(3 * channels, requires_grad=True),
        scale=torch.rand(heads, 1, 1).add(0.5).requires_grad_(),
    )


def by_definition(plan: WindowPlan, shifted: bool, qkv: Tensor, table: Tensor, pad: Tensor, scale: Tensor) -> Tensor:
    bias = gather_bias(table, plan.window)
    return window_attention(qkv, bias, plan, shifted, table.shape[1], scale, pad, backend='eager')


def by_heads(plan: WindowPlan, shifted: bool, qkv: Tensor, table: Tensor, pad: Tensor, scale: Tensor) -> Tensor:
    return large_windows.window_attention_by_heads(qkv, table, plan, shifted, table.shape[1], scale, pad)


def fused(plan: WindowPlan, shifted: bool, qkv: Tensor, table: Tensor, pad: Tensor, scale: Tensor) -> Tensor:
    bias = gather_bias(table, plan.window)
    return window_attention(qkv, bias, plan, shifted, table.shape[1], scale, pad, backend='sdpa')


def operator(plan: WindowPlan, shifted: bool, qkv: Tensor, table: Tensor, pad: Tensor, scale: Tensor) -> Tensor:
    bias, window = gather_bias(table, plan.window), list(plan.window)
    padded = type(plan) is PadShiftPlan
    return window_attention_op(qkv, bias, pad, scale, 1.0, table.shape[1], window, shifted, padded, 'sdpa')


def in_parts(plan: WindowPlan, shifted: bool, qkv: Tensor, table: Tensor, pad: Tensor, scale: Tensor) -> Tensor:
    bias = gather_bias(table, plan.window)
    return sequential.window_attention_in_parts(
        qkv, bias, plan, shifted, table.shape[1], scale, pad, dropout=0.0, backend='auto'
    )


def run(kernel: Kernel, plan: WindowPlan, shifted: bool, inputs: Inputs) -> list[Tensor]:
    """Return the output and the gradients of all inputs."""
    out = kernel(plan, shifted, **inputs)
    weight = torch.linspace(-1, 1, out.numel()).view(out.shape)
    return [out, *torch.autograd.grad((out * weight).sum(), list(inputs.values()), allow_unused=True)]


def check(kernel: Kernel, plan: WindowPlan, shifted: bool, inputs: Inputs, tolerance: float = 2e-5) -> None:
    expected, ours = (run(each, plan, shifted, inputs) for each in (by_definition, kernel))
    for reference, value in zip(expected, ours, strict=True):
        if reference is not None or value is not None:
            assert relative_error(value, reference) < tolerance


@pytest.mark.parametrize('window', [(24, 24), (20, 30)])
@pytest.mark.parametrize('size', [(24, 30), (48, 24), (10, 65)])
@pytest.mark.parametrize('shifted', [False, True])
def test_attention_by_heads_equals_eager(window: tuple[int, int], size: tuple[int, int], shifted: bool) -> None:
    check(by_heads, WindowPlan(*size, window), shifted, make_inputs(2, size, window))


@pytest.mark.parametrize('kernel', [by_heads, fused, operator, in_parts])
@pytest.mark.parametrize(
    ('side', 'size', 'shifted'), [(32, (33, 20), True), (48, (20, 48), True), (56, (28, 30), False)]
)
def test_every_kernel_equals_eager_for_large_windows(
    kernel: Kernel, side: int, size: tuple[int, int], shifted: bool
) -> None:
    check(kernel, WindowPlan(*size, (side, side)), shifted, make_inputs(1, size, (side, side), heads=1), 1e-4)


@pytest.mark.parametrize('shifted', [False, True])
def test_cpu_kernels_with_projections_equal_eager_for_large_windows(shifted: bool) -> None:
    plan, x = WindowPlan(33, 20, (32, 32)), torch.randn(1, 33, 20, 3 * DIM)
    bias, same = torch.randn(1, plan.tokens, plan.tokens), torch.nn.Identity()
    expected = window_attention(x, bias, plan, shifted, 1, 0.3, backend='eager')
    with torch.no_grad():
        grouped = attend_in_groups(x, same, same, bias, plan, shifted, 1, 0.3, None)
    trained = attend_in_windows(x, same, same, bias, plan, shifted, 1, 0.3)
    assert relative_error(grouped, expected) < 2e-5 and relative_error(trained, expected) < 2e-5


@pytest.mark.parametrize('plan', [WindowPlan(10, 17, (4, 5)), PadShiftPlan(10, 17, (4, 5)), WindowPlan(3, 4, (4, 5))])
@pytest.mark.parametrize('shifted', [False, True])
@pytest.mark.parametrize('pairs', [1, 3 * HEADS * 20**2])
def test_attention_in_parts_equals_eager(
    plan: WindowPlan, shifted: bool, pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequential, 'MAX_PAIRS', pairs)
    if shifted or type(plan) is WindowPlan:
        check(in_parts, plan, shifted, make_inputs(2, (plan.height, plan.width), plan.window))


def test_second_derivatives_by_heads_equal_eager() -> None:
    plan, inputs = WindowPlan(26, 24, (24, 24)), make_inputs(1, (26, 24), (24, 24), heads=1)
    seconds = []
    for kernel in (by_definition, by_heads):
        out = kernel(plan, True, **inputs)
        grads = torch.autograd.grad(out.square().sum(), list(inputs.values()), create_graph=True)
        total = sum(grad.square().sum() for grad in grads)
        seconds.append(torch.autograd.grad(total, list(inputs.values())))
    for reference, ours in zip(*seconds, strict=True):
        assert relative_error(ours, reference) < 1e-3


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float64])
def test_attention_by_heads_supports_bfloat16_and_float64(dtype: torch.dtype) -> None:
    plan, inputs = WindowPlan(26, 24, (24, 24)), make_inputs(1, (26, 24), (24, 24))
    exact = run(by_definition, plan, True, inputs)
    cast = {name: value.detach().to(dtype).requires_grad_() for name, value in inputs.items()}
    reference, ours = (run(kernel, plan, True, cast) for kernel in (by_definition, by_heads))
    for exact_value, ref, our in zip(exact, reference, ours, strict=True):
        assert our.dtype == ref.dtype
        allowed = 2 * relative_error(ref.to(exact_value.dtype), exact_value) + 2 * max(torch.finfo(dtype).eps, 1e-5)
        assert relative_error(our.to(exact_value.dtype), exact_value) <= allowed


@pytest.mark.parametrize('window', [(7, 7), (3, 5), (1, 4)])
def test_gather_bias_equals_indexing_the_table(window: tuple[int, int]) -> None:
    table = torch.randn((2 * window[0] - 1) * (2 * window[1] - 1), 3)
    tokens = window[0] * window[1]
    indexed = table[relative_position_index(window)].view(tokens, tokens, 3).permute(2, 0, 1)
    assert torch.equal(gather_bias(table, window), indexed)


@pytest.mark.parametrize('version', [1, 2])
def test_backbone_with_large_windows_equals_eager(version: int) -> None:
    options = dict(version=version, window_size=24, out_indices=(0, 1))
    model = tiny_backbone(**options, backend='eager')
    image = torch.randn(1, 3, 60, 130)
    other = SwinTransformer(**{**TINY, **options})
    other.load_state_dict(model.state_dict())
    for net in (model, other):
        sum((out**2).sum() for out in net(image)).backward()
    for (name, a), b in zip(model.named_parameters(), other.parameters(), strict=True):
        assert relative_error(b.grad, a.grad) < 1e-3, name
    with torch.no_grad():
        for a, b in zip(model.eval()(image), other.eval()(image), strict=True):
            assert relative_error(b, a) < 1e-4


@pytest.mark.parametrize('version', [1, 2])
@pytest.mark.parametrize('method', ['shifted-cyclic', 'shifted-padding'])
def test_sequential_stages_equal_normal_stages(version: int, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequential, 'MAX_PAIRS', 2 * 16**2)
    model = tiny_backbone(version=version, window_size=4, attention_method=method)
    parts = SwinTransformer(**TINY, version=version, window_size=4, attention_method=method, sequential=(0, 1))
    parts.load_state_dict(model.state_dict())
    assert [stage.blocks[0].attn.sequential for stage in parts.layers] == [True, True, False, False]
    image = torch.randn(2, 3, 75, 50)
    for net in (model, parts):
        sum((out**2).sum() for out in net(image)).backward()
    for (name, a), b in zip(model.named_parameters(), parts.named_parameters(), strict=True):
        assert relative_error(b[1].grad, a.grad) < 1e-3, name
    with torch.no_grad():
        for a, b in zip(model(image), parts(image), strict=True):
            assert relative_error(b, a) < 1e-5


def test_sequential_attention_saves_no_attention_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """No saved tensor is as large as the attention weights of all windows."""
    monkeypatch.setattr(sequential, 'MAX_PAIRS', 1)
    plan, inputs = WindowPlan(24, 24, (12, 12)), make_inputs(1, (24, 24), (12, 12))
    pairs = HEADS * plan.num_windows * plan.tokens**2
    kept = {}
    for kernel in (by_definition, in_parts):
        sizes: list[int] = []

        def pack(x: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(x.numel())
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            kernel(plan, True, **inputs)
        kept[kernel] = max(sizes)
    assert kept[by_definition] == pairs and kept[in_parts] <= pairs // plan.num_windows


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(sequential=(0, 4)), 'sequential must be stages from 0 to 3'),
        (dict(sequential=True), 'sequential must be a sequence of integers'),
        (dict(sequential=(0,), attention_method='performer'), 'leave sequential=()'),
        (dict(sequential=(0,), position_encoding='relative-only'), 'leave sequential=()'),
        (dict(norm_order='middle'), "unknown norm_order 'middle': use one of pre, post."),
        (dict(similarity='l2'), "unknown similarity 'l2': use one of dot, cosine."),
        (dict(position_bias='cubic'), "unknown position_bias 'cubic': use one of table, linear, log."),
        (dict(position_bias='log', attention_method='sliding-kernel'), 'leave position_bias=None'),
        (dict(similarity='dot', version=2, position_encoding='relative-only'), 'leave similarity=None'),
    ],
)
def test_invalid_attention_options_raise_input_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        SwinTransformer(**TINY, **options)
    assert message in str(error.value)
