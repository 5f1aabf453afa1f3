"""The arguments of window attention, as its backends hand them on."""

from dataclasses import dataclass

from torch import Tensor

from swin_backbone.attention.window_plan import WindowPlan


@dataclass(frozen=True, eq=False)
class Arguments:
    """Arguments of :func:`swin_backbone.attention.kernels.window_attention`, which documents meaning and shapes.

    Attributes:
        qkv: ``[B, H, W, 3C]``.
        bias: ``[heads, N, N]``.
        pad_value: ``[3C]``.
        scale: a number, or ``[heads, 1, 1]``.
        num_heads: as there.
        plan: as there.
        shifted: as there, but false where ``plan`` has no shift.
        cosine: as there.
    """

    qkv: Tensor
    bias: Tensor | None
    pad_value: Tensor | None
    scale: float | Tensor
    num_heads: int
    plan: WindowPlan
    shifted: bool
    cosine: bool = False

    @property
    def channels(self) -> int:
        """Channels of the output, ``C``."""
        return self.qkv.shape[-1] // 3

    @property
    def dim(self) -> int:
        """Channels of a head, ``d``."""
        return self.channels // self.num_heads
