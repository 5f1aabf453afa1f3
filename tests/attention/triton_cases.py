"""The Triton kernels compared with eager. As a script, it runs all cases under Triton's interpreter and prints JSON.

    TRITON_INTERPRET=1 python -m tests.attention.triton_cases

The variable must be set before triton is imported, so the tests run this as a subprocess.
"""

import json
from dataclasses import dataclass

import torch
from torch import Tensor

from swin_backbone.attention.kernels import triton_launch, window_attention
from swin_backbone.attention.window_plan import WindowPlan

DTYPES = {'float32': torch.float32, 'float16': torch.float16, 'bfloat16': torch.bfloat16}
LIMITS = {'float32': 2e-5, 'float16': 2e-3, 'bfloat16': 2e-2}
"""Largest error by dtype; the interpreter truncates to bfloat16 where a GPU rounds."""


@dataclass(frozen=True)
class Case:
    """A map, its windows and its optional inputs; ``cosine`` is V2's attention, with a scale per head.

    ``mixed``: bias and padding are float32 and the map is in half precision, as under autocast.
    """

    batch: int
    height: int
    width: int
    window: tuple[int, int]
    shifted: bool = True
    heads: int = 2
    dim: int = 16
    cosine: bool = False
    bias: bool = True
    pad: bool = True
    mixed: bool = False


CASES = {
    '7x7': Case(1, 10, 17, (7, 7), shifted=False, heads=1, dim=32),
    '7x7 shifted': Case(2, 9, 6, (7, 7), mixed=True),
    '7x7 whole windows without bias': Case(1, 14, 7, (7, 7), heads=1, bias=False),
    '7x7 one window without padding value': Case(1, 3, 5, (7, 7), heads=1, pad=False),
    '8x8 cosine': Case(1, 13, 10, (8, 8), heads=3, dim=32, cosine=True),
    '2x3': Case(1, 3, 8, (2, 3), heads=1),
    '1x7': Case(1, 2, 9, (1, 7), dim=64, heads=1),
    '12x12': Case(1, 12, 10, (12, 12), heads=1, mixed=True),
    '16x16 cosine': Case(1, 17, 9, (16, 16), heads=1, cosine=True),
}

TRIALS = (triton_launch.COMMON_KIND, (torch.float16, 32, (8, 8), True), (torch.float32, 16, (1, 1), False))


def inputs(case: Case, dtype: torch.dtype, device: str) -> dict[str, Tensor]:
    """Return random inputs of a case by name."""
    tokens, channels = case.window[0] * case.window[1], case.heads * case.dim
    other = torch.float32 if case.mixed else dtype
    found = {'qkv': torch.randn(case.batch, case.height, case.width, 3 * channels).to(dtype)}
    if case.bias:
        found['bias'] = torch.randn(case.heads, tokens, tokens).to(other)
    if case.pad:
        found['pad_value'] = torch.randn(3 * channels).to(other)
    if case.cosine:
        found['scale'] = torch.rand(case.heads, 1, 1) * 10 + 1
    return {name: value.to(device).requires_grad_() for name, value in found.items()}


def run(case: Case, tensors: dict[str, Tensor], d_out: Tensor, backend: str) -> dict[str, Tensor]:
    """Return output and gradients of ``tensors`` by name."""
    plan = WindowPlan(case.height, case.width, case.window)
    scale = tensors.get('scale', case.dim**-0.5)
    qkv, bias, pad = tensors['qkv'], tensors.get('bias'), tensors.get('pad_value')
    out = window_attention(qkv, bias, plan, case.shifted, case.heads, scale, pad, backend=backend, cosine=case.cosine)
    # The padding value of a map without padding is unused.
    found = torch.autograd.grad(out, list(tensors.values()), d_out.to(out.dtype), allow_unused=True)
    grads = {name: torch.zeros_like(t) if g is None else g for (name, t), g in zip(tensors.items(), found, strict=True)}
    return {'out': out.detach(), **grads}


def errors(case: Case, dtype: torch.dtype, device: str) -> dict[str, float]:
    """Return the relative errors of output and gradients by name; the reference is eager in float64."""
    torch.manual_seed(0)
    tensors = inputs(case, dtype, device)
    d_out = torch.randn(case.batch, case.height, case.width, case.heads * case.dim).to(dtype).to(device)
    wide = {name: value.detach().double().requires_grad_() for name, value in tensors.items()}
    ours, exact = run(case, tensors, d_out, 'triton'), run(case, wide, d_out, 'eager')
    # Clamped, as some gradients are zero, for example that of the queries of padding.
    return {
        name: float((ours[name].double() - exact[name]).norm() / exact[name].norm().clamp_min(1e-6)) for name in ours
    }


def zero_keys() -> dict[str, float]:
    """Return the gradient of the zero key of padding, and the number of gradients that are not finite."""
    case = CASES['8x8 cosine']
    tensors = inputs(case, torch.float16, 'cpu')
    with torch.no_grad():
        tensors['pad_value'].view(3, -1)[1] = 0
    found = run(case, tensors, torch.randn(case.batch, case.height, case.width, case.heads * case.dim), 'triton')
    infinite = sum(int((~value.isfinite()).sum()) for value in found.values())
    return dict(infinite=infinite, gradient=float(found['pad_value'].view(3, -1)[1].abs().max()))


def main() -> None:
    """Print the errors by case and dtype, with few programs, so that each has several windows."""
    torch.set_num_threads(1)
    triton_launch.TARGET_PROGRAMS, triton_launch.BACKWARD_PROGRAMS = 4, 6
    table = {f'trial {kind}': triton_launch.trial_errors(torch.device('cpu'), kind) for kind in TRIALS}
    triton_launch.failed_trial_reason = lambda device, kind: None  # the cases cover more
    table |= {
        f'{name}/{kind}': errors(case, dtype, 'cpu') for name, case in CASES.items() for kind, dtype in DTYPES.items()
    }
    print(json.dumps(table | {'zero keys': zero_keys()}))


if __name__ == '__main__':
    main()
