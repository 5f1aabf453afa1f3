"""Launch the Triton kernels of window attention, and tell why they cannot run."""

import functools
import math
import os
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from swin_backbone.attention.kernels.eager import window_attention_eager
from swin_backbone.attention.plan import WindowPlan
from swin_backbone.attention.position import without_autocast

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
HEAD_DIMS = (16, 32, 64)
OLDEST = (8, 0)
"""Compute capability from which on there are the tensor cores that the kernels are written for."""

OLDEST_TRITON = (3, 3)
"""Before, Triton ends the process while it compiles some of the kernels."""

TILE_TOKENS = 64
"""Tokens of the largest window that is one tile; larger windows have no kernel for the backward pass."""

MOST_TOKENS = 1024
MOST_OFFSETS = 2**31
"""Offsets within an image are 32-bit integers."""

LOG2E = math.log2(math.e)
ALIGNMENT = 16  # bytes of the widest load

BUSY = 4096
"""Programs that fill any GPU: a program has as many windows as leave this number, at most :data:`MOST_WINDOWS`."""

MOST_WINDOWS = 8
BACKWARD_PROGRAMS = 512
"""Each program of the backward pass writes a gradient of the bias; their sum should fit into a GPU's cache."""


TRIAL_ERROR = 1e-2
"""Largest relative error of a trial: more than products in TF32 cause."""


@functools.cache
def why_not_on(device: torch.device) -> str | None:
    """Why the kernels cannot run on a device, or None. The first call on a GPU tries the kernels."""
    if os.environ.get('TRITON_INTERPRET') != '1':
        if device.type != 'cuda':
            return f'the kernels need an NVIDIA GPU, and the tensors are on {device.type}'
        if torch.version.cuda is None or not torch.cuda.is_available():
            return 'the kernels need an NVIDIA GPU, and PyTorch finds none'
        found = torch.cuda.get_device_capability(device)
        if found < OLDEST:
            need = '.'.join(map(str, OLDEST))
            return f'the kernels need compute capability {need}, and this GPU has {".".join(map(str, found))}'
    try:
        from swin_backbone.attention.kernels import triton

        if triton.VERSION < OLDEST_TRITON:
            return f'the kernels need Triton 3.3 or newer, and this is {triton.triton.__version__}'
        return None if agrees_with_definition(device) else 'a trial of the kernels gave a wrong result'
    except ImportError as error:
        return f'Triton does not import: {error}'
    except Exception as error:  # no C compiler, no room for the cache, a driver that is too old
        return f'Triton does not work here: {type(error).__name__}: {" ".join(str(error).split())[:200]}'


def agrees_with_definition(device: torch.device) -> bool:
    """Whether the forward kernel gives the result of the definition for a small map with padding and a shift."""
    plan, heads = WindowPlan(9, 10, (7, 7)), 2
    generator = torch.Generator().manual_seed(0)
    shapes = (1, plan.height, plan.width, 192), (heads, plan.tokens, plan.tokens), (192,)
    qkv, bias, pad_value = (torch.randn(shape, generator=generator).to(device) for shape in shapes)
    with torch.no_grad(), without_autocast(device.type):
        ours = attend(qkv, bias, pad_value, 0.2, heads, plan, True)
        theirs = window_attention_eager(qkv, bias, plan, True, heads, 0.2, pad_value, 0.0)
    return bool((ours - theirs).norm() <= TRIAL_ERROR * theirs.norm())


def describe_choice() -> str:
    """One sentence on which kernels ``backend='auto'`` uses on this machine, and why not the Triton kernels."""
    reason = why_not_on(torch.device('cuda' if torch.cuda.is_available() else 'cpu'))
    return f"PyTorch's operators: {reason}" if reason else 'Triton kernels, where they can serve the input'


def why_not(qkv: Tensor, plan: WindowPlan, num_heads: int, dropout: float) -> str | None:
    """Why the kernels cannot compute attention within the windows of ``qkv`` ``[B, H, W, 3C]``, or None if they can."""
    transformed = torch.compiler.is_compiling() or torch.jit.is_tracing() or torch._C._are_functorch_transforms_active()
    if transformed or type(qkv) not in (Tensor, torch.nn.Parameter):
        return 'the tensors are traced or transformed'
    if reason := why_not_on(qkv.device):
        return reason
    if type(plan) is not WindowPlan:
        return 'the kernels shift by rolling, not by padding'
    if dropout:
        return 'the kernels do not drop attention weights'
    if qkv.dtype not in DTYPES:
        return f'the kernels compute in float16, bfloat16 or float32, and the tensors are of {qkv.dtype}'
    dim = qkv.shape[-1] // (3 * num_heads)
    if dim not in HEAD_DIMS:
        return f'the kernels are for heads of {", ".join(map(str, HEAD_DIMS))} channels, and these have {dim}'
    if plan.tokens > MOST_TOKENS:
        return f'the kernels are for windows of at most {MOST_TOKENS} tokens, and these have {plan.tokens}'
    if qkv.numel() == 0:
        return 'the batch is empty'
    if math.prod(plan.padded_size) * qkv.shape[-1] >= MOST_OFFSETS:
        return 'a map is too large for the 32-bit offsets of the kernels'
    return None


def packed(x: Tensor, dtype: torch.dtype) -> Tensor:
    """``x`` in ``dtype``, contiguous, and aligned for the widest loads."""
    x = x.to(dtype).contiguous()
    return x if x.data_ptr() % ALIGNMENT == 0 else x.clone()


def product_precision() -> str:
    """How kernels multiply float32, as PyTorch was told to."""
    settings = torch.backends.cuda.matmul
    fast = settings.fp32_precision == 'tf32' if hasattr(settings, 'fp32_precision') else settings.allow_tf32
    return 'tf32' if fast else 'ieee'


def tile_size(tokens: int) -> int:
    """Rows and columns of a tile: a power of two, at least 16 as products of tiles require."""
    if tokens <= TILE_TOKENS:
        return max(16, 1 << (tokens - 1).bit_length())
    return TILE_TOKENS if tokens % TILE_TOKENS == 0 else TILE_TOKENS // 2


def padded_bias(bias: Tensor | None, num_heads: int, tokens: int, size: int, like: Tensor) -> Tensor:
    """Bias in units of ln 2 ``[heads, size, size]``, minus infinity at keys that do not exist."""
    if bias is None:
        bias = like.new_zeros(num_heads, tokens, tokens, dtype=torch.float32)
    spare = size - tokens
    return F.pad(F.pad(bias.float() * LOG2E, (0, spare), value=-math.inf), (0, 0, 0, spare)).contiguous()


def run_time_arguments(
    qkv: Tensor, bias: Tensor | None, pad_value: Tensor | None, scale: float | Tensor, num_heads: int, plan: WindowPlan
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``qkv``, the value of padding, bias and scale as the kernels read them."""
    size = tile_size(plan.tokens)
    size *= -(-plan.tokens // size)
    qkv = packed(qkv, qkv.dtype)
    pad = qkv if pad_value is None else packed(pad_value, qkv.dtype)
    if isinstance(scale, Tensor):
        factor = (scale.float() * LOG2E).flatten().contiguous()
    else:
        factor = qkv.new_full((num_heads,), scale * LOG2E, dtype=torch.float32)
    full = padded_bias(bias, num_heads, plan.tokens, size, qkv)
    if plan.tokens > TILE_TOKENS and qkv.dtype != torch.float32:
        full = full.half()  # read again for every window; half precision is wrong by at most 0.006 at V2's limit of 16
    return qkv, pad, full, factor


def constants(
    qkv: Tensor, pad_value: Tensor | None, num_heads: int, plan: WindowPlan, shifted: bool
) -> dict[str, Any]:  # fmt: skip
    """What the kernels are compiled for, and the options of their launch."""
    shift = plan.shift if shifted else (0, 0)
    size = tile_size(plan.tokens)
    warps = 2 if size < TILE_TOKENS else 4
    return dict(
        HEADS=num_heads,
        D=qkv.shape[-1] // (3 * num_heads),
        MH=plan.window[0],
        MW=plan.window[1],
        SH=shift[0],
        SW=shift[1],
        TILE=size,
        HAS_PAD=pad_value is not None and plan.padded_size != (plan.height, plan.width),
        PRECISION=product_precision(),
        num_warps=2 * warps if qkv.dtype == torch.float32 else warps,  # its operands take twice the registers
        num_stages=1,
    )


def attend(
    qkv: Tensor,
    bias: Tensor | None,
    pad_value: Tensor | None,
    scale: float | Tensor,
    num_heads: int,
    plan: WindowPlan,
    shifted: bool,
) -> Tensor:
    """Window attention; see :func:`swin_backbone.attention.kernels.window_attention`. Nothing is differentiable."""
    from swin_backbone.attention.kernels import triton

    windows, size = qkv.shape[0] * plan.num_windows, (plan.height, plan.width, *plan.window_grid)
    meta = constants(qkv, pad_value, num_heads, plan, shifted)
    tensors = run_time_arguments(qkv, bias, pad_value, scale, num_heads, plan)
    out = qkv.new_empty(*qkv.shape[:3], qkv.shape[3] // 3)
    with torch.cuda.device_of(qkv):
        if plan.tokens <= TILE_TOKENS:
            per_program = max(1, min(MOST_WINDOWS, windows * num_heads // BUSY))
            grid = (-(-windows // per_program) * num_heads,)
            triton.window_forward[grid](*tensors, out, *size, windows, **meta)
        else:
            grid = (windows * num_heads * -(-plan.tokens // meta['TILE']),)
            triton.large_window_forward[grid](*tensors, out, *size, **meta)
    return out


def gradients(
    d_out: Tensor,
    qkv: Tensor,
    bias: Tensor | None,
    pad_value: Tensor | None,
    scale: float | Tensor,
    num_heads: int,
    plan: WindowPlan,
    shifted: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of ``qkv``, ``bias``, ``pad_value`` and a tensor ``scale``, for windows of one tile."""
    from swin_backbone.attention.kernels import triton

    batch, channels = qkv.shape[0], qkv.shape[3] // 3
    windows, size = batch * plan.num_windows, (plan.height, plan.width, *plan.window_grid)
    meta = constants(qkv, pad_value, num_heads, plan, shifted)
    tensors = run_time_arguments(qkv, bias, pad_value, scale, num_heads, plan)
    d_out, d_qkv = packed(d_out, qkv.dtype), torch.empty_like(tensors[0])
    per_head = max(1, min(windows, BACKWARD_PROGRAMS // num_heads))
    padded = math.prod(plan.padded_size) - plan.height * plan.width if meta['HAS_PAD'] else 0
    d_pad = qkv.new_empty(batch * padded, 2 * channels)
    d_bias = qkv.new_empty(per_head, num_heads, meta['TILE'], meta['TILE'], dtype=torch.float32)
    d_scale = qkv.new_empty(per_head, num_heads, dtype=torch.float32)
    per_scale = isinstance(scale, Tensor)
    with torch.cuda.device_of(qkv):
        triton.window_backward[(per_head * num_heads,)](
            *tensors, d_out, d_qkv, d_pad, d_bias, d_scale, *size, windows,
            HAS_BIAS=bias is not None, HAS_SCALE=per_scale, **meta,
        )  # fmt: skip
    tokens = plan.tokens
    return (
        d_qkv,
        None if bias is None else d_bias.sum(0)[:, :tokens, :tokens].to(bias.dtype).contiguous(),
        None if pad_value is None else F.pad(d_pad.sum(0, dtype=torch.float32), (channels, 0)).to(pad_value.dtype),
        d_scale.sum(0).view_as(scale).to(scale.dtype) if isinstance(scale, Tensor) else None,
    )
