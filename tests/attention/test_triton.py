"""The Triton kernels against the definition: interpreted, compiled for GPUs that need not be there, and on a GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from swin_backbone.attention.kernels import fused, sdpa, window_attention
from swin_backbone.attention.kernels.operator import window_attention_op
from swin_backbone.attention.plan import WindowPlan
from swin_backbone.errors import InputError
from tests.attention.fused_cases import CASES, DTYPES, errors, inputs, run
from tests.conftest import REPOSITORY
from tests.helpers import relative_error, tiny_backbone

LIMITS = {'float32': 2e-5, 'float16': 2e-3, 'bfloat16': 2e-2}
"""Largest error by dtype; the interpreter cuts bfloat16 off where a GPU rounds."""

FORWARD_REGISTERS, BACKWARD_SPILLS = 168, 64
on_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(fused.why_not_on(torch.device('cuda')) is not None, reason='the kernels need a GPU'),
]


def module(name: str, cache: Path, **variables: str) -> dict[str, Any]:
    """Run a module of these tests in a process of its own, and return what it prints."""
    pytest.importorskip('triton', minversion='3.3')
    environment = {**os.environ, 'TRITON_CACHE_DIR': str(cache), 'OMP_NUM_THREADS': '1', **variables}
    command = [sys.executable, '-m', f'tests.attention.{name}']
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope='module')
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return module('fused_cases', tmp_path_factory.mktemp('cache'), TRITON_INTERPRET='1')


@pytest.fixture(scope='module')
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return module('compiled_kernels', tmp_path_factory.mktemp('cache'))


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('name', CASES)
def test_interpreted_kernels_are_the_definition(name: str, dtype: str, interpreted: dict[str, Any]) -> None:
    found = interpreted[f'{name}/{dtype}']
    assert 'out' in found and 'qkv' in found and max(found.values()) < LIMITS[dtype], found


def test_kernels_fit_into_registers_and_load_16_bytes(compiled: dict[str, Any]) -> None:
    for name, used in compiled.items():
        if name.startswith('forward'):
            assert used['registers'] <= FORWARD_REGISTERS and used['spills'] == 0, (name, used)
        assert used['spills'] <= BACKWARD_SPILLS, (name, used)
        assert used['loads'] - used['wide_loads'] <= 1, (name, used)  # the scale alone
        assert used['matrix'] > 0 or 'float32' in name, (name, used)


@pytest.mark.parametrize(
    ('changes', 'dropout', 'reason'),
    [
        ({'dtype': torch.float64}, 0.0, 'float64'),
        ({'dim': 8}, 0.0, 'heads of 16, 32, 64 channels'),
        ({'batch': 0}, 0.0, 'batch is empty'),
        ({'window': (33, 33)}, 0.0, 'at most 1024 tokens'),
        ({'pad_shift': True}, 0.0, 'not by padding'),
        ({}, 0.1, 'do not drop'),
        ({}, 0.0, None),
    ],
)
def test_reasons(changes: dict[str, Any], dropout: float, reason: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, 'why_not_on', lambda device: None)
    options = dict(batch=1, dim=16, window=(7, 7), dtype=torch.float32, pad_shift=False) | changes
    qkv = torch.zeros(options['batch'], 8, 8, 3 * 2 * options['dim'], dtype=options['dtype'])
    plan = WindowPlan(8, 8, options['window'])
    plan = plan.with_pad_shift(True) if options['pad_shift'] else plan
    found = fused.why_not(qkv, plan, 2, dropout)
    assert found is None if reason is None else found and reason in found


def test_large_maps_are_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, 'why_not_on', lambda device: None)
    monkeypatch.setattr(fused, 'MOST_OFFSETS', 1000)
    assert 'too large' in fused.why_not(torch.zeros(1, 8, 8, 96), WindowPlan(8, 8, (7, 7)), 2, 0.0)


@pytest.mark.skipif('TRITON_INTERPRET' in os.environ, reason='the interpreter runs on CPUs')
def test_a_cpu_has_no_kernels() -> None:
    """'auto' takes another backend; asking for them is an error, in a compiled graph too."""
    qkv, plan = torch.randn(1, 3, 3, 96), WindowPlan(3, 3, (3, 3))
    auto, sdpa_out = (window_attention(qkv, None, plan, False, 2, 1.0, backend=name) for name in ('auto', 'sdpa'))
    torch.testing.assert_close(auto, sdpa_out)
    for call in (
        lambda: window_attention(qkv, None, plan, False, 2, 1.0, backend='triton'),
        lambda: window_attention_op(qkv, None, None, None, 1.0, 2, [3, 3], False, False, 'triton'),
        lambda: tiny_backbone(backend='triton')(torch.zeros(1, 3, 32, 32)),
    ):
        with pytest.raises(InputError, match='NVIDIA GPU, and the tensors are on cpu; use backend='):
            call()


def test_the_package_imports_without_triton() -> None:
    code = """
import sys
sys.modules['triton'] = None
import torch
from swin_backbone.attention.kernels import fused
import os
os.environ['TRITON_INTERPRET'] = '1'
print(fused.why_not_on(torch.device('cpu')))
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stdout.startswith('Triton does not import')


@pytest.mark.parametrize('shifted', [False, True])
@pytest.mark.parametrize('bias', [False, True])
def test_sdpa_in_parts(shifted: bool, bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """More windows than a GPU's fused kernels take at once."""
    qkv, plan = torch.randn(2, 9, 8, 48), WindowPlan(9, 8, (3, 3))
    options = (torch.randn(2, 9, 9) if bias else None, plan, shifted, 2, torch.rand(2, 1, 1), torch.randn(48))
    whole = window_attention(qkv, *options, backend='sdpa')
    calls = []
    attention = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        sdpa.F, 'scaled_dot_product_attention', lambda *a, **k: calls.append(a[0].shape[0]) or attention(*a, **k)
    )
    monkeypatch.setitem(sdpa.MOST_ROWS, 'cpu', 5)
    torch.testing.assert_close(window_attention(qkv, *options, backend='sdpa'), whole)
    assert max(calls) == 5 and sum(calls) == 18


def backbone_results(
    image: torch.Tensor, version: int, backend: str, dtype: torch.dtype, **options: Any
) -> list[torch.Tensor]:
    """All maps and all gradients of a small backbone, the same one for every backend, each as one vector."""
    torch.manual_seed(0)
    model = tiny_backbone(version=version, backend=backend, **options).to(image.device)
    with torch.autocast(image.device.type, dtype, enabled=dtype is not torch.float32):
        maps = model(image)
    sum(m.float().square().mean() for m in maps).backward()
    grads = [p.grad for p in model.parameters()]
    return [torch.cat([value.detach().float().flatten() for value in values]) for values in (maps, grads)]


class TestOnGpu:
    """Everything that needs the kernels to run for real."""

    pytestmark = on_gpu

    @pytest.mark.parametrize('dtype', DTYPES)
    @pytest.mark.parametrize('name', CASES)
    def test_kernels_are_the_definition(self, name: str, dtype: str) -> None:
        found = errors(CASES[name], DTYPES[dtype], 'cuda')
        assert max(found.values()) < LIMITS[dtype], found

    @pytest.mark.parametrize('name', ['7x7 shifted', '8x8 cosine'])
    def test_runs_are_equal_and_leave_nothing_unwritten(self, name: str) -> None:
        """PyTorch fills new tensors with NaN while deterministic algorithms are on, so that a missed store shows."""
        case = CASES[name]
        tensors = inputs(case, torch.bfloat16, 'cuda')
        d_out = torch.randn(case.batch, case.height, case.width, case.heads * case.dim, device='cuda')
        torch.use_deterministic_algorithms(True)
        try:
            first, second = (run(case, tensors, d_out, 'triton') for _ in range(2))
        finally:
            torch.use_deterministic_algorithms(False)
        for key, value in first.items():
            assert value.isfinite().all() and torch.equal(value, second[key]), key

    def test_unaligned_and_strided_inputs(self) -> None:
        case = CASES['7x7 shifted']
        tensors = {name: value.detach() for name, value in inputs(case, torch.float16, 'cuda').items()}
        moved = {
            name: torch.cat([value.new_zeros(1), value.flatten()])[1:].view(value.shape)
            for name, value in tensors.items()
        }
        d_out = torch.randn(case.batch, case.height, case.width, 1, device='cuda')
        d_out = d_out.expand(-1, -1, -1, case.heads * case.dim)
        wanted = run(case, {k: v.requires_grad_() for k, v in tensors.items()}, d_out, 'triton')
        found = run(case, {k: v.requires_grad_() for k, v in moved.items()}, d_out, 'triton')
        assert all(torch.equal(found[key], value) for key, value in wanted.items())

    @pytest.mark.parametrize('version', [1, 2])
    @pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
    @pytest.mark.parametrize('options', [{}, {'with_cp': True}])
    def test_backbone_errs_no_more_than_sdpa(self, version: int, dtype: torch.dtype, options: dict[str, Any]) -> None:
        """Maps and gradients under autocast, against float32."""
        image = torch.randn(2, 3, 90, 122, device='cuda')
        exact, theirs, ours = (
            backbone_results(image, version, *choice, **options)
            for choice in (('sdpa', torch.float32), ('sdpa', dtype), ('triton', dtype))
        )
        for truth, their, our in zip(exact, theirs, ours, strict=True):
            allowed = 2 * (their - truth).norm() + 1e-3 * truth.norm()
            assert (our - truth).norm() <= allowed

    @pytest.mark.slow
    def test_compiled_backbone(self) -> None:
        model = tiny_backbone().cuda().eval()
        image = torch.randn(1, 3, 90, 122, device='cuda')
        with torch.no_grad():
            eager, graph = model(image), torch.compile(model, fullgraph=True)(image)
        for ours, theirs in zip(graph, eager, strict=True):
            assert relative_error(ours, theirs) < 1e-3
