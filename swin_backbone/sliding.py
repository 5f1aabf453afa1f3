"""Attention of the ablation 'sliding window' (Swin paper, Tables 5 and 6): a neighbourhood for every token."""

from typing import Any

from torch import Tensor

from swin_backbone import position
from swin_backbone.attention import CosineWindowAttention, WindowAttention
from swin_backbone.ops import SLIDING, WindowPlan


class SlidingAttention(WindowAttention):
    """V1's attention with a neighbourhood instead of a window, whose bias table has a row per place in it.

    The arguments are those of :class:`swin_backbone.attention.WindowAttention` without ``backend``, and:

    Args:
        method: a key of :data:`swin_backbone.ops.SLIDING`.
    """

    new_table = staticmethod(position.neighbour_table)
    spread_table = staticmethod(position.neighbour_bias)

    def __init__(self, *args: Any, method: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.method = method

    def forward(self, x: Tensor, plan: WindowPlan, shifted: bool) -> Tensor:
        """Attend in the neighbourhoods of ``x`` ``[B, H, W, C]``, whatever ``shifted``; same shape out."""
        return slide(self, self.qkv(x), self.scale)


class CosineSlidingAttention(CosineWindowAttention):
    """V2's attention with a neighbourhood instead of a window; its network of biases is asked for fewer offsets.

    The arguments are those of :class:`swin_backbone.attention.CosineWindowAttention` without ``backend``, and:

    Args:
        method: a key of :data:`swin_backbone.ops.SLIDING`.
    """

    spread_table = staticmethod(position.central_bias)

    def __init__(self, *args: Any, method: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.method = method

    def forward(self, x: Tensor, plan: WindowPlan, shifted: bool) -> Tensor:
        """Attend in the neighbourhoods of ``x`` ``[B, H, W, C]``, whatever ``shifted``; same shape out."""
        return slide(self, self.project(x, self.qkv_bias()), self.logit_factor())


def slide(module: SlidingAttention | CosineSlidingAttention, qkv: Tensor, scale: float | Tensor) -> Tensor:
    """Attend with queries, keys and values ``[B, H, W, 3C]`` and project the result: ``[B, H, W, C]``."""
    dropout = module.attn_drop if module.training else 0.0
    run = SLIDING[module.method]
    return module.proj_drop(
        module.proj(run(qkv, module.position_bias(), module.window, module.num_heads, scale, dropout))
    )
