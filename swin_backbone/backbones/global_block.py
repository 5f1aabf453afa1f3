"""Transformer block with global attention, used by DeiT and the extra layer of HTC++."""

import torch.nn.functional as F
from torch import Tensor, nn

from swin_backbone.backbones.blocks import DropPath, Mlp


class GlobalAttention(nn.Module):
    """Scaled dot-product attention without position bias (Vaswani et al., 2017).

    Args:
        dim: channels.
        num_heads: attention heads; must divide ``dim``.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend among the tokens of ``x`` ``[B, N, C]``; same shape out."""
        batch, tokens, channels = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, channels // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each [B, heads, N, d]
        out = F.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).reshape(batch, tokens, channels))


class GlobalBlock(nn.Module):
    """A pre-norm transformer block with the parameter names of DeiT's published weights.

    Args:
        dim: channels.
        num_heads: attention heads.
        mlp_ratio: hidden channels of the MLP as a multiple of ``dim``.
        drop_path: rate of stochastic depth on both branches.
        eps: ``eps`` of the norms.
    """

    def __init__(
        self, dim: int, num_heads: int, mlp_ratio: float = 4.0, drop_path: float = 0.0, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = GlobalAttention(dim, num_heads)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``[B, N, C]``; same shape out."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))
