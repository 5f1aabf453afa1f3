"""What attention within windows computes: one entry point and an ordered table of backends behind it."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from swin_backbone.attention.kernels.eager import window_attention_eager
from swin_backbone.attention.kernels.sdpa import window_attention_sdpa
from swin_backbone.attention.plan import WindowPlan
from swin_backbone.errors import InputError

__all__ = ['BACKENDS', 'check_backend', 'choose_backend', 'window_attention']


@dataclass(frozen=True)
class Backend:
    """A way to compute window attention.

    Attributes:
        run: the computation, with the arguments of :func:`window_attention` in order.
        why_not: a sentence that says why it cannot serve this ``qkv``, or None where it can.
    """

    run: Callable[..., Tensor] | None
    why_not: Callable[[Tensor], str | None]


def _always(qkv: Tensor) -> str | None:
    return None


def _no_fused_kernel(qkv: Tensor) -> str | None:
    if not qkv.is_cuda:
        return f'the fused kernel runs on CUDA devices, the input is on {qkv.device.type!r}'
    return 'this release has no fused kernel yet'


# In the order in which 'auto' asks them.
BACKENDS: dict[str, Backend] = {
    'triton': Backend(None, _no_fused_kernel),
    'sdpa': Backend(window_attention_sdpa, _always),
    'eager': Backend(window_attention_eager, _always),
}


def check_backend(name: str) -> str:
    """``name``, if it is 'auto' or one of :data:`BACKENDS`.

    Raises:
        InputError: it is neither.
    """
    if name != 'auto' and name not in BACKENDS:
        raise InputError(f'unknown backend {name!r}: use one of auto, {", ".join(BACKENDS)}.')
    return name


def choose_backend(name: str, qkv: Tensor) -> Callable[..., Tensor]:
    """The computation called ``name``, or with 'auto' the first of :data:`BACKENDS` that serves ``qkv``.

    Raises:
        InputError: the backend asked for cannot serve this input; the message says why.
    """
    if name == 'auto':
        name = next(key for key, backend in BACKENDS.items() if backend.why_not(qkv) is None)
    reason = BACKENDS[check_backend(name)].why_not(qkv)
    run = BACKENDS[name].run
    if reason is not None or run is None:
        raise InputError(f'backend {name!r} cannot be used: {reason}. Use backend="auto".')
    return run


def window_attention(
    qkv: Tensor,
    bias: Tensor | None,
    plan: WindowPlan,
    shifted: bool,
    num_heads: int,
    scale: float | Tensor,
    pad_value: Tensor | None = None,
    dropout: float = 0.0,
    backend: str = 'auto',
) -> Tensor:
    """Multi-head self-attention within the windows of a map (Swin paper, section 3.2).

    Args:
        qkv: queries, keys and values of the real tokens, ``[B, H, W, 3C]``, ordered (q, k, v) x heads x head dim.
        bias: added to the logits, ``[heads, N, N]``.
        plan: how ``(H, W)`` is cut into windows of ``N`` tokens.
        shifted: whether the windows are displaced by ``plan.shift``, with the mask that this needs.
        num_heads: attention heads.
        scale: factor on the logits before the bias; a number, or one per head ``[heads, 1, 1]``.
        pad_value: query, key and value of a padded token ``[3C]``; zeros if None. Padded tokens are keys like others.
        dropout: probability of dropping an attention weight; 0 outside training.
        backend: a key of :data:`BACKENDS`, or 'auto'.

    Returns:
        The attended values of the real tokens ``[B, H, W, C]``.

    Raises:
        InputError: the shapes do not fit, or the backend cannot serve this input.
    """
    if tuple(qkv.shape[1:3]) != (plan.height, plan.width):
        raise InputError(
            f'expected qkv of [B, {plan.height}, {plan.width}, 3C] as the plan says, got {tuple(qkv.shape)}.'
        )
    shifted = shifted and plan.shift != (0, 0)
    run = choose_backend(backend, qkv)
    return run(qkv, bias, plan, shifted, num_heads, scale, pad_value, dropout)
