"""The Triton kernels without a GPU: compared with eager under the interpreter, and compiled."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from swin_backbone.attention.kernels import sdpa, triton_launch, window_attention
from swin_backbone.attention.kernels.arguments import Arguments
from swin_backbone.attention.kernels.backward import gradients
from swin_backbone.attention.kernels.custom_operator import window_attention_op
from swin_backbone.attention.kernels.eager import window_attention_eager
from swin_backbone.attention.window_plan import WindowPlan
from swin_backbone.errors import InputError
from tests.attention.triton_cases import CASES, DTYPES, LIMITS
from tests.conftest import REPOSITORY
from tests.helpers import tiny_backbone

FORWARD_REGISTERS, BACKWARD_SPILLS = 168, 64


def module(name: str, cache: Path, **variables: str) -> dict[str, Any]:
    """Run a module of these tests in a subprocess, and return the JSON that it prints."""
    pytest.importorskip('triton', minversion='3.3')
    environment = {**os.environ, 'TRITON_CACHE_DIR': str(cache), 'OMP_NUM_THREADS': '1', **variables}
    command = [sys.executable, '-m', f'tests.attention.{name}']
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope='module')
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return module('triton_cases', tmp_path_factory.mktemp('cache'), TRITON_INTERPRET='1')


@pytest.fixture(scope='module')
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return module('compiled_kernels', tmp_path_factory.mktemp('cache'))


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('name', CASES)
def test_interpreted_kernels_equal_eager(name: str, dtype: str, interpreted: dict[str, Any]) -> None:
    found = interpreted[f'{name}/{dtype}']
    assert 'out' in found and 'qkv' in found and max(found.values()) < LIMITS[dtype], found


def test_trials_pass_under_the_interpreter(interpreted: dict[str, Any]) -> None:
    found = [errors for name, errors in interpreted.items() if name.startswith('trial')]
    assert len(found) > 2 and all(max(errors.values()) < triton_launch.TRIAL_ERROR / 2 for errors in found), found


def test_zero_keys_of_padding_have_zero_gradient(interpreted: dict[str, Any]) -> None:
    """V2's keys have no bias, so keys of padding are zero, where the gradient of normalization would be infinite."""
    assert interpreted['zero keys'] == {'infinite': 0, 'gradient': 0.0}


def test_kernels_fit_into_registers_and_load_16_bytes(compiled: dict[str, Any]) -> None:
    for name, used in compiled.items():
        if name.startswith('forward'):
            assert used['registers'] <= FORWARD_REGISTERS and used['spills'] == 0, (name, used)
        assert used['spills'] <= BACKWARD_SPILLS, (name, used)
        assert used['loads'] - used['wide_loads'] <= 1, (name, used)  # except the scale
        assert used['matrix'] > 0 or 'float32' in name, (name, used)


def simulate_supported_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_launch, 'unsupported_device_reason', lambda device: None)
    monkeypatch.setattr(triton_launch, 'failed_trial_reason', lambda device, kind: None)


@pytest.mark.parametrize(
    ('changes', 'dropout', 'reason'),
    [
        ({'dtype': torch.float64}, 0.0, 'float64'),
        ({'dim': 8}, 0.0, 'heads of 16, 32, 64 channels'),
        ({'batch': 0}, 0.0, 'batch is empty'),
        ({'window': (33, 33)}, 0.0, 'at most 1024 tokens'),
        ({'pad_shift': True}, 0.0, 'shifts by padding'),
        ({}, 0.1, 'dropout of attention weights'),
        ({}, 0.0, None),
    ],
)
def test_unsupported_reason_names_the_limit(
    changes: dict[str, Any], dropout: float, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate_supported_device(monkeypatch)
    options = dict(batch=1, dim=16, window=(7, 7), dtype=torch.float32, pad_shift=False) | changes
    qkv = torch.zeros(options['batch'], 8, 8, 3 * 2 * options['dim'], dtype=options['dtype'])
    plan = WindowPlan(8, 8, options['window'])
    plan = plan.with_pad_shift(True) if options['pad_shift'] else plan
    found = triton_launch.unsupported_reason(Arguments(qkv, None, None, 1.0, 2, plan, True), dropout)
    assert found is None if reason is None else found and reason in found


def test_maps_beyond_32_bit_offsets_are_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    simulate_supported_device(monkeypatch)
    monkeypatch.setattr(triton_launch, 'MAX_OFFSETS', 1000)
    given = Arguments(torch.zeros(1, 8, 8, 96), None, None, 1.0, 2, WindowPlan(8, 8, (7, 7)), True)
    assert 'too large' in triton_launch.unsupported_reason(given, 0.0)


def change_gradient(number: int) -> Any:
    def changed(d_out: torch.Tensor, given: Arguments) -> tuple[torch.Tensor, ...]:
        found = list(gradients(d_out, given))
        found[number] = 1.1 * found[number]
        return tuple(found)

    return changed


def no_compiler(*_: Any) -> None:
    raise RuntimeError('Failed to find C compiler.\nSet CC')


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        ({}, None),
        (
            {'attend': lambda given: 1.1 * window_attention_eager(given, 0.0)},
            'a trial of the kernels gave a wrong output',
        ),
        ({'gradients': change_gradient(0)}, 'a trial of the kernels gave a wrong gradient of the map'),
        ({'gradients': change_gradient(1)}, 'a trial of the kernels gave a wrong gradient of the bias'),
        ({'gradients': change_gradient(2)}, 'a trial of the kernels gave a wrong gradient of padding'),
        ({'gradients': change_gradient(3)}, 'a trial of the kernels gave a wrong gradient of the scale'),
        ({'gradients': no_compiler}, 'Triton does not work here: RuntimeError: Failed to find C compiler. Set CC'),
    ],
)
def test_failed_trial_of_either_pass_is_reported(
    changes: dict[str, Any], reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default device, autocast and inference mode have no effect on the trial."""
    passes = {'attend': lambda given: window_attention_eager(given, 0.0), 'gradients': gradients} | changes
    for name, function in passes.items():
        monkeypatch.setattr(triton_launch, name, function)
    monkeypatch.setattr(triton_launch, 'unsupported_device_reason', lambda device: None)
    kind = (torch.bfloat16, 16, (8, 8), True)
    with torch.device('meta'), torch.autocast('cpu', torch.bfloat16), torch.inference_mode():
        assert triton_launch.failed_trial_reason.__wrapped__(torch.device('cpu'), kind) == reason
        if 'attend' not in changes:  # large windows have a kernel for the forward pass only
            assert triton_launch.failed_trial_reason.__wrapped__(torch.device('cpu'), (*kind[:2], (9, 8), True)) is None
    monkeypatch.setattr(triton_launch, 'COMMON_KIND', kind)
    monkeypatch.setattr(triton_launch, 'failed_trial_reason', triton_launch.failed_trial_reason.__wrapped__)
    assert triton_launch.describe_choice() == (
        f"PyTorch's operators: {reason}" if reason else 'Triton kernels, if they support the input'
    )


@pytest.mark.skipif('TRITON_INTERPRET' in os.environ, reason='the interpreter runs on CPUs')
def test_triton_backend_on_a_cpu_raises_input_error() -> None:
    """'auto' uses another backend; backend='triton' is an error, also for the operator of compiled graphs."""
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
from swin_backbone.attention.kernels import triton_launch
import os
os.environ['TRITON_INTERPRET'] = '1'
print(triton_launch.unavailable_reason(torch.device('cpu')))
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stdout.startswith('Triton cannot be imported')


@pytest.mark.parametrize('shifted', [False, True])
@pytest.mark.parametrize('bias', [False, True])
def test_sdpa_in_parts_equals_one_call(shifted: bool, bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU, the fused kernels limit the number of windows of a call."""
    qkv, plan = torch.randn(2, 9, 8, 48), WindowPlan(9, 8, (3, 3))
    options = (torch.randn(2, 9, 9) if bias else None, plan, shifted, 2, torch.rand(2, 1, 1), torch.randn(48))
    whole = window_attention(qkv, *options, backend='sdpa')
    calls = []
    attention = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        sdpa.F, 'scaled_dot_product_attention', lambda *a, **k: calls.append(a[0].shape[0]) or attention(*a, **k)
    )
    monkeypatch.setitem(sdpa.MAX_ROWS, 'cpu', 5)
    torch.testing.assert_close(window_attention(qkv, *options, backend='sdpa'), whole)
    assert max(calls) == 5 and sum(calls) == 18
