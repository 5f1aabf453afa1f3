"""Attention of the ablation 'Performer' (Swin paper, Tables 5 and 6): linear, over the whole map of a stage."""

import torch
from torch import Tensor, nn

from swin_backbone.ops import WindowPlan
from swin_backbone.ops.performer import default_features, orthogonal_features, performer_attention
from swin_backbone.position import without_autocast


class PerformerAttention(nn.Module):
    """V1's projections around linear attention over the whole map.

    There is no relative position bias: it would need the weights of single pairs of tokens, which are never formed.

    The random features follow the module to other devices and precisions, and are no part of its state dict: they are
    drawn from ``seed``, so that a model built again is the same function. They stay until :func:`redraw_features`.

    Args:
        dim: channels.
        num_heads: attention heads; ``dim`` is divisible by it.
        qkv_bias: whether queries, keys and values have a bias.
        proj_drop: probability of dropping an output feature.
        seed: where the random features come from.
    """

    features: Tensor

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool = True, proj_drop: float = 0.0, seed: int = 0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        self.register_buffer('features', self.draw(seed).to(self.proj.weight.device), persistent=False)

    def draw(self, seed: int) -> Tensor:
        """New random features ``[m, d]``."""
        head_dim = self.proj.in_features // self.num_heads
        return orthogonal_features(default_features(head_dim), head_dim, seed)

    def forward(self, x: Tensor, plan: WindowPlan, shifted: bool) -> Tensor:
        """Attend over all of ``x`` ``[B, H, W, C]``, whatever ``plan`` and ``shifted``; same shape out."""
        qkv = self.qkv(x)
        with without_autocast(x.device.type):
            out = performer_attention(qkv, self.features, self.num_heads, self.scale)
        return self.proj_drop(self.proj(out))


def redraw_features(model: nn.Module, seed: int) -> None:
    """Give every Performer of ``model`` new random features. Trained with them, a model needs ``seed`` to be itself."""
    for number, module in enumerate(m for m in model.modules() if isinstance(m, PerformerAttention)):
        with torch.no_grad():
            module.features.copy_(module.draw(seed + number))
