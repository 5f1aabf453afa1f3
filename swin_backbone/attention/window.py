"""Attention within windows: projections around one call of :func:`swin_backbone.attention.kernels.window_attention`."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_backbone.attention import position
from swin_backbone.attention.kernels import window_attention
from swin_backbone.attention.kernels.cpu import attend_in_groups, works_in_groups
from swin_backbone.attention.kernels.operator import window_attention_op
from swin_backbone.attention.kernels.windowed import attend_in_windows, trains_in_windows
from swin_backbone.attention.plain import is_plain
from swin_backbone.attention.plan import WindowPlan, pad_to_windows

INITIAL_LOGIT_SCALE = 10.0
MAX_LOGIT_SCALE = 100.0


@dataclass(frozen=True)
class AttentionOptions:
    """Arguments that the attention modules share; a module ignores what has no meaning for it.

    Attributes:
        dim: channels.
        window: rows and columns of a window or neighbourhood.
        num_heads: attention heads; ``dim`` is divisible by it.
        qkv_bias: whether queries, keys and values have a bias (V2: queries and values).
        attn_drop: probability of dropping an attention weight.
        proj_drop: probability of dropping an output feature.
        relative_bias: whether there is a relative position bias.
        backend: see :func:`swin_backbone.attention.kernels.window_attention`.
        method: see :class:`swin_backbone.SwinTransformer`.
        pretrained_window: V2: the window that the weights were trained with; zeros if it is this one.
        seed: Performer: seed of the random features.
    """

    dim: int
    window: tuple[int, int]
    num_heads: int
    qkv_bias: bool = True
    attn_drop: float = 0.0
    proj_drop: float = 0.0
    relative_bias: bool = True
    backend: str = 'auto'
    method: str = 'shifted-cyclic'
    pretrained_window: tuple[int, int] = (0, 0)
    seed: int = 0

    @property
    def pad_shift(self) -> bool:
        """Whether a shift pads the map on all sides instead of rolling it."""
        return self.method == 'shifted-padding'


class WindowAttention(nn.Module):
    """V1's attention: scaled dot products plus a learned table of relative position biases (Swin paper, section 3.2).

    Subclasses override :meth:`project`, :meth:`logit_scale`, :meth:`pad_value` and :meth:`position_bias`.
    """

    def __init__(self, options: AttentionOptions) -> None:
        super().__init__()
        self.window = options.window
        self.num_heads = options.num_heads
        self.attn_drop = options.attn_drop
        self.backend = options.backend
        self.pad_shift = options.pad_shift
        self.build(options)
        self.proj = nn.Linear(options.dim, options.dim)
        self.proj_drop = nn.Dropout(options.proj_drop)
        self.build_position(options)

    def build(self, options: AttentionOptions) -> None:
        """Create the parameters before the output projection; the order decides what a seed initialises."""
        self.scale = (options.dim // options.num_heads) ** -0.5
        self.qkv = nn.Linear(options.dim, 3 * options.dim, bias=options.qkv_bias)

    def build_position(self, options: AttentionOptions) -> None:
        """Create the parameters of the position bias."""
        table = position.relative_table(options.window, options.num_heads) if options.relative_bias else None
        self.relative_position_bias_table = table

    def project(self, tokens: Tensor) -> Tensor:
        """Queries, keys and values ``[..., 3C]`` of ``tokens`` ``[..., C]``."""
        return self.qkv(tokens)

    def logit_scale_factor(self) -> float | Tensor:
        """Factor on the logits before the bias: a number, or one per head ``[heads, 1, 1]``."""
        return self.scale

    def pad_value(self) -> Tensor | None:
        """Query, key and value of a padded token ``[3C]``: the projection of zeros; None for zeros."""
        return self.qkv.bias

    def position_bias(self) -> Tensor | None:
        """What is added to the logits of every window, ``[heads, N, N]``."""
        table = self.relative_position_bias_table
        return None if table is None else position.gather_bias(table, self.window)

    def forward(self, x: Tensor, plan: WindowPlan, shifted: bool) -> Tensor:
        """Attend within the windows of ``x`` ``[B, H, W, C]``; same shape out."""
        direct = self.backend in ('auto', 'sdpa') and not self.pad_shift and not (self.training and self.attn_drop)
        if direct and trains_in_windows(x):
            bias, scale = self.position_bias(), self.logit_scale_factor()
            out = attend_in_windows(x, self.project, self.proj, bias, plan, shifted, self.num_heads, scale)
            return self.proj_drop(out)
        if is_plain(self.qkv):
            return self.attend(x, plan, shifted, self.pad_value())
        # What another module makes of a padded token is not known before it is called, so it is called on the padding.
        padded = WindowPlan(*plan.padded_size, plan.window)
        return self.attend(pad_to_windows(x, plan, None), padded, shifted, None)[:, : plan.height, : plan.width]

    def attend(self, x: Tensor, plan: WindowPlan, shifted: bool, pad_value: Tensor | None) -> Tensor:
        """:meth:`forward` with the query, key and value of padded tokens ``[3C]``."""
        bias, scale = self.position_bias(), self.logit_scale_factor()
        dropout = self.attn_drop if self.training else 0.0
        if dropout == 0.0 and torch.compiler.is_compiling() and not torch.compiler.is_exporting():
            tensor, factor = (scale, 1.0) if isinstance(scale, Tensor) else (None, scale)
            qkv, window = self.project(x), list(self.window)
            out = window_attention_op(
                qkv, bias, pad_value, tensor, factor, self.num_heads, window, shifted, self.pad_shift, self.backend
            )
            out = self.proj(out)
        elif self.backend in ('auto', 'sdpa') and dropout == 0.0 and works_in_groups(x, self.qkv, self.proj):
            plan = plan.with_pad_shift(shifted) if self.pad_shift else plan
            out = attend_in_groups(x, self.project, self.proj, bias, plan, shifted, self.num_heads, scale, pad_value)
        else:
            plan = plan.with_pad_shift(shifted) if self.pad_shift else plan
            qkv = self.project(x)
            out = window_attention(qkv, bias, plan, shifted, self.num_heads, scale, pad_value, dropout, self.backend)
            out = self.proj(out)
        return self.proj_drop(out)


class CosineWindowAttention(WindowAttention):
    """V2's attention: scaled cosines plus a log-spaced continuous bias (Swin V2 paper, sections 3.2 and 3.3).

    Queries and values have a bias, keys have none.
    """

    def build(self, options: AttentionOptions) -> None:
        """Create the logit scale, the network of position biases, and the projection with its biases."""
        self.pretrained_window = options.pretrained_window
        self.logit_scale = nn.Parameter(torch.full((options.num_heads, 1, 1), math.log(INITIAL_LOGIT_SCALE)))
        self.cpb_mlp = position.ContinuousBias(options.num_heads) if options.relative_bias else None
        self.qkv = nn.Linear(options.dim, 3 * options.dim, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(options.dim)) if options.qkv_bias else None
        self.v_bias = nn.Parameter(torch.zeros(options.dim)) if options.qkv_bias else None

    def build_position(self, options: AttentionOptions) -> None:
        """Nothing: :meth:`build` creates the network."""

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

    def project(self, tokens: Tensor) -> Tensor:
        """Queries and keys of unit length, and values ``[..., 3C]``, of ``tokens`` ``[..., C]``."""
        bias = self.qkv_bias()
        if is_plain(self.qkv):
            return self.normalize(F.linear(tokens, self.qkv.weight, bias))
        qkv = self.qkv(tokens)
        return self.normalize(qkv if bias is None else qkv + bias)

    def logit_scale_factor(self) -> Tensor:
        """Factor on the cosines ``[heads, 1, 1]``, at most 100, in at least float32."""
        dtype = torch.promote_types(self.logit_scale.dtype, torch.float32)
        return self.logit_scale.to(dtype).clamp(max=math.log(MAX_LOGIT_SCALE)).exp()

    def pad_value(self) -> Tensor | None:
        """Query, key and value of a padded token ``[3C]``."""
        bias = self.qkv_bias()
        return None if bias is None else self.normalize(bias)

    def position_bias(self) -> Tensor | None:
        """What is added to the logits of every window, ``[heads, N, N]``, between 0 and 16."""
        if self.cpb_mlp is None:
            return None
        return self.cpb_mlp.spread(self.window, self.pretrained_window, position.gather_bias)
