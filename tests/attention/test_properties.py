"""Properties of window attention for sizes, windows, heads and precisions drawn by hypothesis."""

import math
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from swin_backbone.attention.kernels import BACKENDS, window_attention
from swin_backbone.attention.kernels.cpu import attend_in_groups
from swin_backbone.attention.window import AttentionOptions, CosineWindowAttention, WindowAttention
from swin_backbone.attention.window_plan import PadShiftPlan, WindowPlan, window_partition, window_reverse
from tests.helpers import randomize

pytest.importorskip('hypothesis', reason='hypothesis is not installed')
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

SIDES = st.integers(1, 40)
WINDOWS = st.tuples(st.integers(1, 8), st.integers(1, 8))
CPU_BACKENDS = [name for name in BACKENDS if name != 'triton']
EXACT = {torch.float64: 1e-12, torch.float32: 2e-5}


def examples(count: int) -> settings:
    """Return settings with the same examples in every run, without shrinking, which takes minutes."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.generate,),
        # The fixture that seeds every test runs once for all examples, but these set or draw their own seeds.
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@dataclass
class Case:
    """Arguments of window attention; ``inputs`` are qkv, bias, pad value and scale."""

    plan: WindowPlan
    shifted: bool
    heads: int
    inputs: list[Tensor] = field(repr=False)
    bias: bool
    padding: bool

    def run(self, backend: str, dtype: torch.dtype, plan: WindowPlan | None = None) -> list[Tensor]:
        """Return the output and the gradients of all inputs, computed in ``dtype``."""
        qkv, bias, pad_value, scale = inputs = [x.to(dtype).requires_grad_() for x in self.inputs]
        out = window_attention(
            qkv,
            bias if self.bias else None,
            plan or self.plan,
            self.shifted,
            self.heads,
            scale,
            pad_value if self.padding else None,
            backend=backend,
        )
        weight = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view_as(out)
        gradients = torch.autograd.grad((out * weight).sum(), inputs, allow_unused=True, materialize_grads=True)
        return [x.detach().double() for x in (out, *gradients)]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    plan = WindowPlan(draw(SIDES), draw(SIDES), draw(WINDOWS))
    heads, dim, batch = draw(st.integers(1, 4)), draw(st.sampled_from((1, 3, 8))), draw(st.integers(1, 2))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    channels = 3 * heads * dim
    shapes = [(batch, plan.height, plan.width, channels), (heads, plan.tokens, plan.tokens), (channels,)]
    inputs = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    scale = torch.rand(heads, 1, 1, generator=generator, dtype=torch.float64) + dim**-0.5
    # Rounded to the lowest precision, so that every precision gets the same numbers.
    inputs = [x.bfloat16().double() for x in (*inputs, scale)]
    return Case(plan, draw(st.booleans()), heads, inputs, draw(st.booleans()), draw(st.booleans()))


def errors(ours: list[Tensor], reference: list[Tensor]) -> list[float]:
    """Return largest differences relative to the largest value, or to the rounding noise of a sum if that is larger."""
    noise = [max(1.0, reference[0].numel() / x.numel()) ** 0.5 for x in reference]
    triples = zip(ours, reference, noise, strict=True)
    return [((a - b).abs().max() / b.abs().max().clamp_min(floor)).item() for a, b, floor in triples]


@pytest.mark.parametrize('backend', [name for name in CPU_BACKENDS if name != 'eager'])
@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
@given(case=cases())
@examples(40)
def test_every_backend_equals_eager(backend: str, dtype: torch.dtype, case: Case) -> None:
    assert max(errors(case.run(backend, dtype), case.run('eager', dtype))) < EXACT[dtype]


@pytest.mark.parametrize('backend', [name for name in CPU_BACKENDS if name != 'eager'])
@given(case=cases())
@examples(40)
def test_backend_errors_in_bfloat16_are_at_most_twice_those_of_eager(backend: str, case: Case) -> None:
    exact = case.run('eager', torch.float64)
    eager, ours = (errors(case.run(name, torch.bfloat16), exact) for name in ('eager', backend))
    for allowed, error in zip(eager, ours, strict=True):
        assert error <= 2 * (allowed + torch.finfo(torch.bfloat16).eps)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
@given(case=cases())
@examples(40)
def test_attention_in_groups_equals_eager(dtype: torch.dtype, case: Case) -> None:
    with torch.no_grad():
        qkv, bias, pad, scale = (x.to(dtype) for x in case.inputs)
        options = (bias if case.bias else None, case.plan, case.shifted, case.heads, scale)
        pad_value = pad if case.padding else None
        whole = window_attention(qkv, *options, pad_value, backend='eager')
        grouped = attend_in_groups(qkv, nn.Identity(), nn.Identity(), *options, pad_value)
    assert max(errors([grouped], [whole])) < EXACT[dtype]


@pytest.mark.parametrize('backend', CPU_BACKENDS)
@given(case=cases())
@examples(40)
def test_shift_by_padding_equals_cyclic_shift(backend: str, case: Case) -> None:
    framed = case.plan.with_pad_shift(case.shifted)
    assert max(errors(case.run(backend, torch.float64, framed), case.run(backend, torch.float64))) < 1e-12


@given(
    size=st.tuples(SIDES, SIDES),
    window=WINDOWS,
    kind=st.sampled_from((WindowPlan, PadShiftPlan)),
    shifted=st.booleans(),
    dtype=st.sampled_from((torch.float32, torch.float64, torch.bfloat16)),
)
@examples(60)
def test_reverse_inverts_partition(
    size: tuple[int, int], window: tuple[int, int], kind: type[WindowPlan], shifted: bool, dtype: torch.dtype
) -> None:
    shifted = shifted or kind is PadShiftPlan  # PadShiftPlan is for shifted blocks only
    plan, x = kind(*size, window), torch.arange(2 * math.prod(size) * 3, dtype=dtype).view(2, *size, 3)
    windows = window_partition(x, plan, shifted, pad_value=torch.full((3,), -1.0))
    assert windows.shape == (2, plan.num_windows, plan.tokens, 3)
    assert torch.equal(window_reverse(windows, plan, shifted), x)


@pytest.mark.parametrize('attention', [WindowAttention, CosineWindowAttention])
@pytest.mark.parametrize('backend', CPU_BACKENDS)
@pytest.mark.parametrize('method', ['shifted-cyclic', 'shifted-padding'])
@given(
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    window=st.sampled_from(((2, 3), (3, 2), (2, 2), (1, 4))),
    heads=st.integers(1, 2),
    shifted=st.booleans(),
)
@examples(6)
def test_gradients_equal_finite_differences(
    attention: type[WindowAttention],
    backend: str,
    method: str,
    size: tuple[int, int],
    window: tuple[int, int],
    heads: int,
    shifted: bool,
) -> None:
    """This covers the map and every parameter: projections with biases, position bias, logit scale."""
    torch.manual_seed(0)
    module = attention(AttentionOptions(2 * heads, window, heads, backend=backend, method=method))
    names, parameters = zip(*randomize(module.double()).named_parameters(), strict=True)
    plan = WindowPlan(*size, window)

    def attend(x: Tensor, *values: Tensor) -> Tensor:
        return functional_call(module, dict(zip(names, values, strict=True)), (x, plan, shifted))

    x = torch.randn(1, *size, 2 * heads, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(attend, (x, *parameters), fast_mode=True)
