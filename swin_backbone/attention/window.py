"""Attention within windows: projections around one call of :func:`swin_backbone.attention.kernels.window_attention`."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_backbone.attention import position_encoding
from swin_backbone.attention.kernels import window_attention
from swin_backbone.attention.kernels.arguments import Arguments
from swin_backbone.attention.kernels.cpu import attend_in_groups, can_run_in_groups
from swin_backbone.attention.kernels.custom_operator import identity, window_attention_op
from swin_backbone.attention.kernels.eager import unit
from swin_backbone.attention.kernels.exported import window_attention_exported
from swin_backbone.attention.kernels.large_windows import can_run_by_heads, window_attention_by_heads
from swin_backbone.attention.kernels.sequential import window_attention_in_parts
from swin_backbone.attention.kernels.window_order import attend_in_windows, can_train_in_windows
from swin_backbone.attention.window_plan import WindowPlan, is_recording, pad_to_windows
from swin_backbone.attention.wrapped_layers import can_split_calls, is_plain

INITIAL_LOGIT_SCALE = 10.0
MAX_LOGIT_SCALE = 100.0


@dataclass(frozen=True)
class AttentionOptions:
    """Arguments shared by the attention modules; a module ignores those that do not apply to it.

    Attributes:
        dim: channels.
        window: rows and columns of a window or neighbourhood.
        num_heads: attention heads; must divide ``dim``.
        qkv_bias: whether queries, keys and values have a bias (V2: queries and values).
        attn_drop: probability of dropping an attention weight.
        proj_drop: probability of dropping an output feature.
        relative_bias: whether there is a relative position bias.
        backend: see :func:`swin_backbone.attention.kernels.window_attention`.
        method: see :class:`swin_backbone.SwinTransformer`.
        position_bias: 'table', or the kind of a continuous bias, see
            :class:`swin_backbone.attention.position_encoding.ContinuousBias`.
        pretrained_window: continuous bias: the window that the weights were trained with; zeros for ``window``.
        sequential: whether attention is computed for a few windows at a time.
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
    position_bias: str = 'table'
    pretrained_window: tuple[int, int] = (0, 0)
    sequential: bool = False
    seed: int = 0

    @property
    def pad_shift(self) -> bool:
        """Whether a shift pads the map on all sides instead of rolling it."""
        return self.method == 'shifted-padding'


class WindowAttention(nn.Module):
    """V1's attention: scaled dot products plus a learned table of relative position biases (Swin paper, section 3.2).

    Subclasses override :meth:`project`, :meth:`logit_scale_factor`, :meth:`pad_value` and :meth:`position_table`.
    """

    def __init__(self, options: AttentionOptions) -> None:
        super().__init__()
        self.window = options.window
        self.num_heads = options.num_heads
        self.attn_drop = options.attn_drop
        self.backend = options.backend
        self.pad_shift = options.pad_shift
        self.sequential = options.sequential
        self.build(options)
        self.proj = nn.Linear(options.dim, options.dim)
        self.proj_drop = nn.Dropout(options.proj_drop)
        self.build_position(options)

    def build(self, options: AttentionOptions) -> None:
        """Create the parameters before the output projection; their order determines the values that a seed gives."""
        self.scale = (options.dim // options.num_heads) ** -0.5
        self.cpb_mlp = self.continuous_bias(options)
        self.qkv = nn.Linear(options.dim, 3 * options.dim, bias=options.qkv_bias)

    def build_position(self, options: AttentionOptions) -> None:
        """Create the table of position biases, if there is one."""
        tabled = options.relative_bias and options.position_bias == 'table'
        self.relative_position_bias_table = (
            position_encoding.relative_table(options.window, options.num_heads) if tabled else None
        )

    def continuous_bias(self, options: AttentionOptions) -> position_encoding.ContinuousBias | None:
        """Create the network of position biases; None if a table is used, or no bias."""
        if not options.relative_bias or options.position_bias == 'table':
            return None
        self.pretrained_window = options.pretrained_window
        return position_encoding.ContinuousBias(options.num_heads, options.position_bias)

    def project(self, tokens: Tensor) -> Tensor:
        """Return queries, keys and values ``[..., 3C]`` of ``tokens`` ``[..., C]``."""
        return self.qkv(tokens)

    def logit_scale_factor(self) -> float | Tensor:
        """Return the factor on the logits before the bias: a number, or one per head ``[heads, 1, 1]``."""
        return self.scale

    def pad_value(self) -> Tensor | None:
        """Return query, key and value of a padded token ``[3C]``, the projection of a zero token; None for zeros."""
        return self.qkv.bias

    def kernel_inputs(self, x: Tensor, pad_value: Tensor | None) -> tuple[Tensor, Tensor | None, bool]:
        """Return queries, keys and values of ``x`` and of a padded token, and whether the kernel normalizes them."""
        return self.project(x), pad_value, False

    def position_table(self, window: tuple[int, int] | None = None) -> Tensor | None:
        """Return the position bias of every offset between tokens of a window, ``[(2Mh-1)(2Mw-1), heads]``.

        Args:
            window: rows and columns of a window that is clipped to a small map; :attr:`window` if None.
        """
        window = self.window if window is None else window
        if self.cpb_mlp is not None:
            return self.cpb_mlp.table(window, self.pretrained_window)
        table = self.relative_position_bias_table
        return None if table is None else position_encoding.clip_table(table, self.window, window)

    def position_bias(self, window: tuple[int, int] | None = None) -> Tensor | None:
        """Return the bias added to the logits, ``[heads, N, N]``; ``window`` is as in :meth:`position_table`."""
        window = self.window if window is None else window
        table = self.position_table(window)
        return None if table is None else position_encoding.gather_bias(table, window)

    def forward(self, x: Tensor, plan: WindowPlan, shifted: bool) -> Tensor:
        """Attend within the windows of ``x`` ``[B, H, W, C]``; same shape out."""
        shifted = shifted and plan.shift != (0, 0)
        if self.allows_cpu_kernels() and not self.can_run_by_heads(x, plan):
            if self.can_train_in_windows(x) and can_split_calls(self.qkv, self.proj):
                bias, scale = self.position_bias(plan.window), self.logit_scale_factor()
                out = attend_in_windows(x, self.project, self.proj, bias, plan, shifted, self.num_heads, scale)
                return self.proj_drop(out)
            if can_run_in_groups(x, self.qkv, self.proj):
                plan = plan.with_pad_shift(shifted) if self.pad_shift else plan
                rest = (self.position_bias(plan.window), plan, shifted, self.num_heads, self.logit_scale_factor())
                return self.proj_drop(attend_in_groups(x, self.project, self.proj, *rest, self.pad_value()))
        if is_plain(self.qkv):
            return self.proj_drop(self.proj(self.attend(x, plan, shifted, self.pad_value())))
        # A wrapped or hooked projection may treat zeros in any way, so it has to see the padding.
        values = self.attend(pad_to_windows(x, plan, None), plan.padded(), shifted, None)
        return self.proj_drop(self.proj(values[:, : plan.height, : plan.width]))

    def allows_cpu_kernels(self) -> bool:
        """Return whether the CPU kernels, which have no dropout, may be used."""
        return self.backend in ('auto', 'sdpa') and not (self.training and self.attn_drop)

    def can_run_by_heads(self, x: Tensor, plan: WindowPlan) -> bool:
        """Return whether the CPU kernel for large windows supports ``x``; it does not support shifts by padding."""
        return not self.pad_shift and can_run_by_heads(x, plan)

    def can_train_in_windows(self, x: Tensor) -> bool:
        """Return whether the CPU kernel for training supports ``x``."""
        return not (self.pad_shift or self.sequential) and can_train_in_windows(x)

    def attend(self, x: Tensor, plan: WindowPlan, shifted: bool, pad_value: Tensor | None) -> Tensor:
        """Compute attention ``[B, H, W, C]`` without output projection; padded tokens are ``pad_value`` ``[3C]``."""
        scale = self.logit_scale_factor()
        dropout = self.attn_drop if self.training else 0.0
        if is_recording() and not dropout:  # a shift by padding gives the same result as this cyclic shift
            qkv, pad_value, cosine = self.kernel_inputs(x, pad_value)
            bias = self.position_bias(plan.window)
            given = Arguments(qkv, bias, pad_value, scale, self.num_heads, plan, shifted, cosine)
            return window_attention_exported(given)
        if self.allows_cpu_kernels() and self.can_run_by_heads(x, plan):
            table, qkv = self.position_table(plan.window), self.project(x)
            return window_attention_by_heads(qkv, table, plan, shifted, self.num_heads, scale, pad_value)
        bias = self.position_bias(plan.window)
        if pad_value is None and self.allows_cpu_kernels() and self.can_train_in_windows(x):
            rest = (bias, plan, shifted, self.num_heads, scale)
            return attend_in_windows(self.project(x), identity, identity, *rest)
        qkv, pad_value, cosine = self.kernel_inputs(x, pad_value)
        compiled = torch.compiler.is_compiling() and not torch.compiler.is_exporting()
        if dropout == 0.0 and compiled and not self.sequential:
            tensor, factor = (scale, 1.0) if isinstance(scale, Tensor) else (None, scale)
            options = (self.num_heads, list(plan.window), shifted, self.pad_shift, self.backend, cosine)
            return window_attention_op(qkv, bias, pad_value, tensor, factor, *options)
        plan = plan.with_pad_shift(shifted) if self.pad_shift else plan
        compute = window_attention_in_parts if self.sequential else window_attention
        return compute(qkv, bias, plan, shifted, self.num_heads, scale, pad_value, dropout, self.backend, cosine)


class CosineWindowAttention(WindowAttention):
    """V2's attention: scaled cosines plus a log-spaced continuous position bias (Swin V2 paper, sections 3.2, 3.3).

    Queries and values have a bias, keys have none.
    """

    def build(self, options: AttentionOptions) -> None:
        """Create the logit scale, the network of position biases, and the projection with its biases."""
        self.logit_scale = nn.Parameter(torch.full((options.num_heads, 1, 1), math.log(INITIAL_LOGIT_SCALE)))
        self.cpb_mlp = self.continuous_bias(options)
        self.qkv = nn.Linear(options.dim, 3 * options.dim, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(options.dim)) if options.qkv_bias else None
        self.v_bias = nn.Parameter(torch.zeros(options.dim)) if options.qkv_bias else None

    def qkv_bias(self) -> Tensor | None:
        """Return the bias of queries, keys (zeros) and values ``[3C]``, or None."""
        if self.q_bias is None or self.v_bias is None:
            return None
        return torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])

    def normalize(self, qkv: Tensor) -> Tensor:
        """Normalize queries and keys of ``[..., 3C]`` to unit length per head, in at least float32."""
        split = qkv.unflatten(-1, (3, self.num_heads, -1))
        return torch.cat([unit(split[..., :2, :, :]), split[..., 2:, :, :]], dim=-3).flatten(-3)

    def queries_keys_values(self, tokens: Tensor) -> Tensor:
        """Return queries, keys and values ``[..., 3C]`` of ``tokens`` ``[..., C]``, not normalized."""
        bias = self.qkv_bias()
        if can_split_calls(self.qkv):
            return F.linear(tokens, self.qkv.weight, bias)
        qkv = self.qkv(tokens)
        return qkv if bias is None else qkv + bias

    def project(self, tokens: Tensor) -> Tensor:
        """Return normalized queries and keys, and values, ``[..., 3C]`` of ``tokens`` ``[..., C]``."""
        return self.normalize(self.queries_keys_values(tokens))

    def logit_scale_factor(self) -> Tensor:
        """Return the factor on the cosines ``[heads, 1, 1]``, at most 100, in at least float32."""
        dtype = torch.promote_types(self.logit_scale.dtype, torch.float32)
        return self.logit_scale.to(dtype).clamp(max=math.log(MAX_LOGIT_SCALE)).exp()

    def pad_value(self) -> Tensor | None:
        """Return query, key and value of a padded token ``[3C]``; None for zeros."""
        bias = self.qkv_bias()
        return None if bias is None else self.normalize(bias)

    def kernel_inputs(self, x: Tensor, pad_value: Tensor | None) -> tuple[Tensor, Tensor | None, bool]:
        """See the base class. On a GPU the kernels normalize, so that no unit vectors are stored."""
        if x.device.type != 'cuda':
            return super().kernel_inputs(x, pad_value)
        return self.queries_keys_values(x), None if pad_value is None else self.qkv_bias(), True
