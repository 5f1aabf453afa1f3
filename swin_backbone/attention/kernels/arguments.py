"""The arguments of window attention as one object, which the backends share."""

from dataclasses import dataclass

from torch import Tensor

from swin_backbone.attention.window_plan import WindowPlan


@dataclass(frozen=True, eq=False)
class Arguments:
    """Arguments of :func:`swin_backbone.attention.kernels.window_attention`; see there for their meaning.

    Attributes:
        qkv: ``[B, H, W, 3C]``.
        bias: ``[heads, N, N]``.
        pad_value: ``[3C]``.
        scale: a number, or ``[heads, 1, 1]``.
        num_heads: attention heads.
        plan: the window plan of the map.
        shifted: whether the windows are shifted; false if ``plan`` has no shift.
        cosine: whether queries and keys are normalized to unit length first.
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
