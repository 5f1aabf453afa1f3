"""Launch of the Triton kernels of window attention, and the reasons why they cannot run."""

import functools
import math
import os
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from swin_backbone.attention.kernels.arguments import Arguments
from swin_backbone.attention.kernels.backward import Gradients
from swin_backbone.attention.kernels.backward import gradients as plain_gradients
from swin_backbone.attention.kernels.eager import window_attention_eager
from swin_backbone.attention.position_encoding import without_autocast
from swin_backbone.attention.window_plan import WindowPlan
from swin_backbone.attention.wrapped_layers import is_transformed

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
HEAD_DIMS = (16, 32, 64)
MIN_CAPABILITY = (8, 0)
"""Lowest compute capability with the tensor cores that the kernels need."""

MIN_TRITON = (3, 3)
"""Older versions abort the process when they compile some of the kernels."""

TILE_TOKENS = 64
"""Tokens of the largest window that fits into one tile; the backward pass has no kernel for larger windows."""

MAX_TOKENS = 1024
MAX_OFFSETS = 2**31
"""Limit of the 32-bit offsets within an image."""

LOG2E = math.log2(math.e)
ALIGNMENT = 16  # bytes of the widest load

TARGET_PROGRAMS = 4096
"""Number of programs that fills any GPU. With more windows, a program computes several, up to :data:`MAX_WINDOWS`."""

MAX_WINDOWS = 8
BACKWARD_PROGRAMS = 512
"""Each program of the backward pass writes a gradient of the bias; all of them should fit into a GPU's cache."""

TRIAL_ERROR = 0.05
"""Largest relative error of a trial; rounding to bfloat16 and TF32 products cause less."""

Kind = tuple[torch.dtype, int, tuple[int, int], bool]
"""Key of a trial: dtype, channels of a head, window, and whether it is cosine attention."""

COMMON_KIND: Kind = (torch.bfloat16, 32, (7, 7), False)


@functools.cache
def unsupported_device_reason(device: torch.device) -> str | None:
    """Return why a device, or the installed Triton, cannot run the kernels, or None if it can."""
    if os.environ.get('TRITON_INTERPRET') != '1':
        if device.type != 'cuda':
            return f'the kernels need an NVIDIA GPU, and the tensors are on {device.type}'
        if torch.version.cuda is None or not torch.cuda.is_available():
            return 'the kernels need an NVIDIA GPU, and PyTorch finds none'
        found = torch.cuda.get_device_capability(device)
        if found < MIN_CAPABILITY:
            need = '.'.join(map(str, MIN_CAPABILITY))
            return f'the kernels need compute capability {need}, and this GPU has {".".join(map(str, found))}'
    try:
        from swin_backbone.attention.kernels import triton
    except Exception as error:  # a broken installation may raise any exception
        return f'Triton cannot be imported: {error}'
    if triton.VERSION < MIN_TRITON:
        return f'the kernels need Triton 3.3 or newer, and {triton.triton.__version__} is installed'
    return None


@functools.cache
def failed_trial_reason(device: torch.device, kind: Kind) -> str | None:
    """Return why the kernels fail for a kind of tensors (an exception or a wrong result), or None.

    The first call with each kind compiles and runs both passes.
    """
    try:
        wrong = [name for name, error in trial_errors(device, kind).items() if not error <= TRIAL_ERROR]
    except Exception as error:  # for example no C compiler, no space for the cache, an old driver
        return f'Triton does not work here: {type(error).__name__}: {" ".join(str(error).split())[:200]}'
    return f'a trial of the kernels gave a wrong {" and ".join(wrong)}' if wrong else None


def trial_errors(device: torch.device, kind: Kind) -> dict[str, float]:
    """Return relative errors of the output and of all gradients by name, for a small map with padding and a shift.

    The reference is the definition in float32 on the CPU. For windows larger than a tile only the output is compared.
    """
    dtype, dim, window, cosine = kind
    plan, heads = WindowPlan(window[0] + 2, window[1] + 3, window), 2
    channels, generator = heads * dim, torch.Generator('cpu').manual_seed(0)
    shapes = (1, plan.height, plan.width, 3 * channels), (1, plan.height, plan.width, channels)
    with torch.device('cpu'):
        qkv, d_out = (torch.randn(shape, generator=generator).to(dtype).float() for shape in shapes)
        bias, pad_value = (
            torch.randn(s, generator=generator) for s in ((heads, plan.tokens, plan.tokens), 3 * channels)
        )
        scale = torch.full((heads, 1, 1), 4.0) if cosine else dim**-0.5
    exact = Arguments(qkv, bias, pad_value, scale, heads, plan, plan.shift != (0, 0), cosine)
    given = replace(
        exact,
        qkv=qkv.to(device, dtype),
        bias=bias.to(device),
        pad_value=pad_value.to(device),
        scale=scale.to(device) if isinstance(scale, Tensor) else scale,
    )
    with torch.no_grad(), without_autocast(device.type), without_autocast('cpu'):
        pairs = {'output': (attend(given), window_attention_eager(exact, 0.0))}
        if plan.tokens <= TILE_TOKENS:
            names = ('gradient of the map', 'gradient of the bias', 'gradient of padding', 'gradient of the scale')
            ours, reference = gradients(d_out.to(device, dtype), given), plain_gradients(d_out, exact)
            found = zip(names, ours, reference, strict=True)
            pairs |= {name: (our, ref) for name, our, ref in found if our is not None and ref is not None}
        # Clamped, as some references are zero, for example the gradients in a window of one token.
        return {name: float((a.cpu().float() - b).norm() / b.norm().clamp_min(1e-6)) for name, (a, b) in pairs.items()}


def unavailable_reason(device: torch.device) -> str | None:
    """Return why the kernels cannot run on a device, or None; they are tried for the most common kind of tensors."""
    return unsupported_device_reason(device) or failed_trial_reason(device, COMMON_KIND)


def describe_choice() -> str:
    """Describe which kernels ``backend='auto'`` uses on this machine, with the reason if not the Triton kernels."""
    reason = unavailable_reason(torch.device('cuda' if torch.cuda.is_available() else 'cpu'))
    return f"PyTorch's operators: {reason}" if reason else 'Triton kernels, if they support the input'


def unsupported_reason(given: Arguments, dropout: float) -> str | None:
    """Return why the kernels cannot compute attention with these arguments, or None if they can."""
    qkv, plan = given.qkv, given.plan
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing() or is_transformed()
    if traced or type(qkv) not in (Tensor, torch.nn.Parameter):
        return 'the tensors are traced or transformed'
    if reason := unsupported_device_reason(qkv.device):
        return reason
    if type(plan) is not WindowPlan:
        return 'the kernels do not support shifts by padding'
    if dropout:
        return 'the kernels do not support dropout of attention weights'
    if qkv.dtype not in DTYPES:
        return f'the kernels support float16, bfloat16 and float32, and the tensors are {qkv.dtype}'
    if given.dim not in HEAD_DIMS:
        return f'the kernels support heads of {", ".join(map(str, HEAD_DIMS))} channels, and these have {given.dim}'
    if plan.tokens > MAX_TOKENS:
        return f'the kernels support windows of at most {MAX_TOKENS} tokens, and these have {plan.tokens}'
    if qkv.numel() == 0:
        return 'the batch is empty'
    if math.prod(plan.padded_size) * qkv.shape[-1] >= MAX_OFFSETS:
        return 'the map is too large for the 32-bit offsets of the kernels'
    return failed_trial_reason(qkv.device, (qkv.dtype, given.dim, plan.window, given.cosine))


def packed(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return ``x`` in ``dtype``, contiguous, and aligned for the widest loads."""
    x = x.to(dtype).contiguous()
    return x if x.data_ptr() % ALIGNMENT == 0 else x.clone()


def product_precision() -> str:
    """Return the precision of float32 products that is set in PyTorch."""
    settings = torch.backends.cuda.matmul
    fast = settings.fp32_precision == 'tf32' if hasattr(settings, 'fp32_precision') else settings.allow_tf32
    return 'tf32' if fast else 'ieee'


def tile_size(tokens: int) -> int:
    """Return the rows and columns of a tile: a power of two, at least 16, as ``tl.dot`` requires."""
    if tokens <= TILE_TOKENS:
        return max(16, 1 << (tokens - 1).bit_length())
    return TILE_TOKENS if tokens % TILE_TOKENS == 0 else TILE_TOKENS // 2


def padded_bias(bias: Tensor | None, num_heads: int, tokens: int, size: int, like: Tensor) -> Tensor:
    """Convert the bias to units of ln 2 and pad it to ``[heads, size, size]``, with minus infinity for absent keys."""
    if bias is None:
        bias = like.new_zeros(num_heads, tokens, tokens, dtype=torch.float32)
    spare = size - tokens
    return F.pad(F.pad(bias.float() * LOG2E, (0, spare), value=-math.inf), (0, 0, 0, spare)).contiguous()


def run_time_arguments(given: Arguments) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return ``qkv``, the value of padding, bias and scale in the form that the kernels expect."""
    tokens, scale = given.plan.tokens, given.scale
    size = tile_size(tokens)
    size *= -(-tokens // size)
    qkv = packed(given.qkv, given.qkv.dtype)
    pad = qkv if given.pad_value is None else packed(given.pad_value, qkv.dtype)
    if isinstance(scale, Tensor):
        factor = (scale.float() * LOG2E).flatten().contiguous()
    else:
        factor = qkv.new_full((given.num_heads,), scale * LOG2E, dtype=torch.float32)
    full = padded_bias(given.bias, given.num_heads, tokens, size, qkv)
    if tokens > TILE_TOKENS and qkv.dtype != torch.float32:
        full = full.half()  # read for every window; half precision has an error of at most 0.006 at V2's limit of 16
    return qkv, pad, full, factor


def constants(given: Arguments) -> dict[str, Any]:
    """Return the compile-time constants of the kernels and their launch options."""
    plan = given.plan
    shift = plan.shift if given.shifted else (0, 0)
    size = tile_size(plan.tokens)
    warps = 2 if size < TILE_TOKENS else 4
    return dict(
        HEADS=given.num_heads,
        D=given.dim,
        MH=plan.window[0],
        MW=plan.window[1],
        SH=shift[0],
        SW=shift[1],
        TILE=size,
        HAS_PAD=given.pad_value is not None and plan.padded_size != (plan.height, plan.width),
        PRECISION=product_precision(),
        COSINE=given.cosine,
        num_warps=2 * warps if given.qkv.dtype == torch.float32 else warps,  # float32 operands need twice the registers
        num_stages=1,
    )


def attend(given: Arguments) -> Tensor:
    """Launch the forward kernel of :func:`swin_backbone.attention.kernels.window_attention`, without autograd."""
    from swin_backbone.attention.kernels import triton

    qkv, plan, heads = given.qkv, given.plan, given.num_heads
    windows, size = qkv.shape[0] * plan.num_windows, (plan.height, plan.width, *plan.window_grid)
    meta = constants(given)
    tensors = run_time_arguments(given)
    out = qkv.new_empty(*qkv.shape[:3], given.channels)
    with torch.cuda.device_of(qkv):
        if plan.tokens <= TILE_TOKENS:
            per_program = max(1, min(MAX_WINDOWS, windows * heads // TARGET_PROGRAMS))
            grid = (-(-windows // per_program) * heads,)
            triton.window_forward[grid](*tensors, out, *size, windows, **meta)
        else:
            grid = (windows * heads * -(-plan.tokens // meta['TILE']),)
            triton.large_window_forward[grid](*tensors, out, *size, **meta)
    return out


def gradients(d_out: Tensor, given: Arguments) -> Gradients:
    """Compute the gradients of window attention without dropout, for windows of one tile."""
    from swin_backbone.attention.kernels import triton

    qkv, plan, heads, channels = given.qkv, given.plan, given.num_heads, given.channels
    bias, pad_value, scale = given.bias, given.pad_value, given.scale
    batch, size = qkv.shape[0], (plan.height, plan.width, *plan.window_grid)
    windows, meta = batch * plan.num_windows, constants(given)
    tensors = run_time_arguments(given)
    d_out, d_qkv = packed(d_out, qkv.dtype), torch.empty_like(tensors[0])
    per_head = max(1, min(windows, BACKWARD_PROGRAMS // heads))
    padded = math.prod(plan.padded_size) - plan.height * plan.width if meta['HAS_PAD'] else 0
    d_pad = qkv.new_empty(batch * padded, 2 * channels)
    d_bias = qkv.new_empty(per_head, heads, meta['TILE'], meta['TILE'], dtype=torch.float32)
    d_scale = qkv.new_empty(per_head, heads, dtype=torch.float32)
    with torch.cuda.device_of(qkv):
        triton.window_backward[(per_head * heads,)](
            *tensors, d_out, d_qkv, d_pad, d_bias, d_scale, *size, windows,
            HAS_BIAS=bias is not None, HAS_SCALE=isinstance(scale, Tensor), **meta,
        )  # fmt: skip
    tokens = plan.tokens
    return (
        d_qkv,
        None if bias is None else d_bias.sum(0)[:, :tokens, :tokens].to(bias.dtype).contiguous(),
        None if pad_value is None else F.pad(d_pad.sum(0, dtype=torch.float32), (channels, 0)).to(pad_value.dtype),
        d_scale.sum(0).view_as(scale).to(scale.dtype) if isinstance(scale, Tensor) else None,
    )
