"""Window attention: one entry point and an ordered table of backends."""

from collections.abc import Callable

from torch import Tensor

from swin_backbone.attention.kernels.arguments import Arguments
from swin_backbone.attention.kernels.custom_operator import window_attention_triton
from swin_backbone.attention.kernels.eager import window_attention_eager
from swin_backbone.attention.kernels.sdpa import window_attention_sdpa
from swin_backbone.attention.kernels.triton_launch import unsupported_reason
from swin_backbone.attention.window_plan import WindowPlan
from swin_backbone.attention.wrapped_layers import is_transformed
from swin_backbone.errors import InputError

__all__ = ['BACKENDS', 'check_backend', 'window_attention']


# In the order in which 'auto' prefers them; 'sdpa' supports every input.
BACKENDS: dict[str, Callable[[Arguments, float], Tensor]] = {
    'triton': window_attention_triton,
    'sdpa': window_attention_sdpa,
    'eager': window_attention_eager,
}


def check_backend(name: str) -> str:
    """Return ``name`` if it is 'auto' or one of :data:`BACKENDS`.

    Raises:
        InputError: if it is neither.
    """
    if name != 'auto' and name not in BACKENDS:
        raise InputError(f'unknown backend {name!r}: use one of auto, {", ".join(BACKENDS)}.')
    return name


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
    cosine: bool = False,
) -> Tensor:
    """Compute multi-head self-attention within the windows of a map (Swin paper, section 3.2).

    Args:
        qkv: queries, keys and values of the real tokens, ``[B, H, W, 3C]``, ordered (q, k, v) x heads x head dim.
        bias: added to the logits, ``[heads, N, N]``.
        plan: how ``(H, W)`` is cut into windows of ``N`` tokens.
        shifted: whether the windows are shifted by ``plan.shift`` and masked.
        num_heads: attention heads.
        scale: factor on the logits before the bias; a number, or one per head ``[heads, 1, 1]``.
        pad_value: query, key and value of a padded token ``[3C]``; zeros if None. Padded tokens act as keys.
        dropout: probability of dropping an attention weight; 0 outside training.
        backend: a key of :data:`BACKENDS`, or 'auto': 'triton' where it can run, else 'sdpa'.
        cosine: whether queries and keys, including those of ``pad_value``, are normalized to unit length first (Swin V2
            paper, section 3.2).

    Returns:
        The attended values of the real tokens ``[B, H, W, C]``.

    Raises:
        InputError: if the shapes do not match the plan, or the backend does not support this input.
    """
    if tuple(qkv.shape[1:3]) != (plan.height, plan.width):
        raise InputError(
            f'expected qkv of shape [B, {plan.height}, {plan.width}, 3C] from the plan, got {tuple(qkv.shape)}.'
        )
    shifted = shifted and plan.shift != (0, 0)
    given = Arguments(qkv, bias, pad_value, scale, num_heads, plan, shifted, cosine)
    name = check_backend(backend)
    if name == 'auto':
        name = 'sdpa' if unsupported_reason(given, dropout) else 'triton'
    if name == 'sdpa' and is_transformed():  # not all of PyTorch's fused kernels support forward-mode AD and vmap
        name = 'eager'
    return BACKENDS[name](given, dropout)
