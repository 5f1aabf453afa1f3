"""Attention within windows: projections around one call into :mod:`swin_backbone.attention.kernels`."""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_backbone.attention import position
from swin_backbone.attention.kernels import window_attention
from swin_backbone.attention.kernels.cpu import attend_in_groups, works_in_groups
from swin_backbone.attention.plan import WindowPlan, displaced

INITIAL_LOGIT_SCALE = 10.0
MAX_LOGIT_SCALE = 100.0


class WindowAttention(nn.Module):
    """V1's attention: scaled dot products plus a learned table of relative position biases (Swin paper, section 3.2).

    Args:
        dim: channels.
        window: rows and columns of a window.
        num_heads: attention heads; ``dim`` is divisible by it.
        qkv_bias: whether queries, keys and values have a bias.
        attn_drop: probability of dropping an attention weight.
        proj_drop: probability of dropping an output feature.
        relative_bias: whether there is a bias table.
        backend: see :func:`swin_backbone.attention.kernels.window_attention`.
        displaced: whether a shift displaces the grid over a padded map, instead of rolling the map.
    """

    new_table = staticmethod(position.relative_table)
    spread_table = staticmethod(position.gather_bias)

    def __init__(
        self,
        dim: int,
        window: tuple[int, int],
        num_heads: int,
        qkv_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        relative_bias: bool = True,
        backend: str = 'auto',
        displaced: bool = False,
    ) -> None:
        super().__init__()
        self.window = window
        self.num_heads = num_heads
        self.attn_drop = attn_drop
        self.backend = backend
        self.displaced = displaced
        self.scale = (dim // num_heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        table = self.new_table(window, num_heads) if relative_bias else None
        self.relative_position_bias_table = table

    def position_bias(self) -> Tensor | None:
        """What is added to the logits of every window, ``[heads, N, N]``."""
        if self.relative_position_bias_table is None:
            return None
        return self.spread_table(self.relative_position_bias_table, self.window)

    def forward(self, x: Tensor, plan: WindowPlan, shifted: bool) -> Tensor:
        """Attend within the windows of ``x`` ``[B, H, W, C]``; same shape out."""
        return attend(self, x, plan, shifted, self.qkv, self.scale, pad_value=self.qkv.bias)


class CosineWindowAttention(nn.Module):
    """V2's attention: scaled cosines plus a log-spaced continuous bias (Swin V2 paper, sections 3.2 and 3.3).

    There is a bias on queries and values, none on keys. The arguments are those of :class:`WindowAttention`, and:

    Args:
        pretrained_window: the window that the weights were trained with; zeros if it is this one.
    """

    spread_table = staticmethod(position.gather_bias)

    def __init__(
        self,
        dim: int,
        window: tuple[int, int],
        num_heads: int,
        qkv_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        relative_bias: bool = True,
        backend: str = 'auto',
        displaced: bool = False,
        pretrained_window: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__()
        self.window = window
        self.pretrained_window = pretrained_window
        self.num_heads = num_heads
        self.attn_drop = attn_drop
        self.backend = backend
        self.displaced = displaced
        self.logit_scale = nn.Parameter(torch.full((num_heads, 1, 1), math.log(INITIAL_LOGIT_SCALE)))
        self.cpb_mlp = position.ContinuousBias(num_heads) if relative_bias else None
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(dim)) if qkv_bias else None
        self.v_bias = nn.Parameter(torch.zeros(dim)) if qkv_bias else None
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        self._bias_cache: tuple[tuple[object, ...], Tensor] | None = None

    def qkv_bias(self) -> Tensor | None:
        """The bias of queries, keys (zeros) and values ``[3C]``, or None."""
        if self.q_bias is None or self.v_bias is None:
            return None
        return torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])

    def normalize(self, qkv: Tensor) -> Tensor:
        """Bring queries and keys of ``[..., 3C]`` to unit length per head, computed in at least float32."""
        dtype = torch.promote_types(qkv.dtype, torch.float32)
        split = qkv.unflatten(-1, (3, self.num_heads, -1))
        directions = F.normalize(split[..., :2, :, :].to(dtype), dim=-1).to(qkv.dtype)
        return torch.cat([directions, split[..., 2:, :, :]], dim=-3).flatten(-3)

    def position_bias(self) -> Tensor | None:
        """What is added to the logits of every window, ``[heads, N, N]``; computed once per weights in evaluation."""
        if self.cpb_mlp is None:
            return None
        if self.training or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self._spread(self.cpb_mlp)
        return self._cached_bias(self.cpb_mlp)

    def _spread(self, cpb_mlp: position.ContinuousBias) -> Tensor:
        return cpb_mlp.spread(self.window, self.pretrained_window, self.spread_table)

    def _cached_bias(self, cpb_mlp: position.ContinuousBias) -> Tensor:
        weights = list(cpb_mlp.parameters())
        if any(type(weight) is not nn.Parameter or weight.is_inference() for weight in weights):
            return self._spread(cpb_mlp)
        key = tuple((weight.data_ptr(), weight._version, weight.dtype, weight.device) for weight in weights)
        if self._bias_cache is None or self._bias_cache[0] != key:
            with torch.inference_mode(False), torch.no_grad():
                self._bias_cache = (key, self._spread(cpb_mlp))
        return self._bias_cache[1]

    def logit_factor(self) -> Tensor:
        """Factor on the cosines ``[heads, 1, 1]``, at most 100, in at least float32."""
        dtype = torch.promote_types(self.logit_scale.dtype, torch.float32)
        return self.logit_scale.to(dtype).clamp(max=math.log(MAX_LOGIT_SCALE)).exp()

    def train(self, mode: bool = True) -> 'CosineWindowAttention':
        """As for any module; also forgets the cached bias, since weights may be swapped behind autograd's back."""
        self._bias_cache = None
        return super().train(mode)

    def forward(self, x: Tensor, plan: WindowPlan, shifted: bool) -> Tensor:
        """Attend within the windows of ``x`` ``[B, H, W, C]``; same shape out."""
        bias = self.qkv_bias()
        pad_value = None if bias is None else self.normalize(bias)
        return attend(self, x, plan, shifted, partial(self.project, bias=bias), self.logit_factor(), pad_value)

    def project(self, tokens: Tensor, bias: Tensor | None) -> Tensor:
        """Queries and keys of unit length, and values ``[..., 3C]``, of ``tokens`` ``[..., C]``."""
        return self.normalize(F.linear(tokens, self.qkv.weight, bias))


def attend(
    module: WindowAttention | CosineWindowAttention,
    x: Tensor,
    plan: WindowPlan,
    shifted: bool,
    project: Callable[[Tensor], Tensor],
    scale: float | Tensor,
    pad_value: Tensor | None,
) -> Tensor:
    """What both attentions share: project ``x`` ``[B, H, W, C]``, attend within windows, project back.

    Args:
        module: whose bias, heads, dropouts, backend and output projection are used.
        x: real tokens.
        plan: how the map is cut into windows.
        shifted: whether the windows are displaced.
        project: from tokens ``[..., C]`` to queries, keys and values ``[..., 3C]``.
        scale: see :func:`swin_backbone.attention.kernels.window_attention`, as for the next.
        pad_value: query, key and value of a padded token ``[3C]``.
    """
    if module.displaced:
        plan = displaced(plan, shifted)
    bias, heads = module.position_bias(), module.num_heads
    dropout = module.attn_drop if module.training else 0.0
    if module.backend in ('auto', 'sdpa') and dropout == 0.0 and works_in_groups(x):
        out = attend_in_groups(x, project, module.proj, bias, plan, shifted, heads, scale, pad_value)
    else:
        qkv = project(x)
        out = module.proj(window_attention(qkv, bias, plan, shifted, heads, scale, pad_value, dropout, module.backend))
    return module.proj_drop(out)
