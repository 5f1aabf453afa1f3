"""Linear attention over a whole map: FAVOR+ (Choromanski et al., Rethinking attention with Performers, ICLR 2021).

The softmax kernel ``exp(q . k)`` is the mean of ``exp(w . q - |q|^2 / 2) exp(w . k - |k|^2 / 2)`` over Gaussian ``w``.
With finitely many ``w``, orthogonal in blocks so that the estimate varies less, keys and values can be summed up before
any query sees them, and the cost grows with the tokens instead of with their square.
"""

import math

import torch
from torch import Tensor, nn

from swin_backbone.attention.position_encoding import without_autocast
from swin_backbone.attention.window import AttentionOptions
from swin_backbone.attention.window_plan import WindowPlan


def default_features(head_dim: int) -> int:
    """Random features per head: ``d ln d`` rounded, which the paper's bound asks for; 111 for ``d`` of 32."""
    return max(1, round(head_dim * math.log(head_dim)))


def orthogonal_features(count: int, head_dim: int, seed: int) -> Tensor:
    """Directions ``[count, d]``, orthogonal in blocks of ``d``, as long as Gaussian vectors; float32, on the CPU."""
    generator = torch.Generator('cpu').manual_seed(seed)
    blocks = -(-count // head_dim)
    gaussian = torch.randn(blocks, head_dim, head_dim, generator=generator, device='cpu')
    lengths = torch.randn(count, head_dim, generator=generator, device='cpu').norm(dim=1, keepdim=True)
    # The signs make the rotations uniformly distributed, which those of the factorisation alone are not.
    rotations, triangular = torch.linalg.qr(gaussian)
    signs = torch.where(triangular.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0)
    rows = (rotations * signs[:, None, :]).transpose(1, 2).flatten(0, 1)
    return rows[:count] * lengths


def exponents(x: Tensor, directions: Tensor) -> Tensor:
    """Logarithms of the positive random features ``[..., tokens, m]`` of ``x`` ``[..., tokens, d]``, already scaled."""
    # In place, here and below: what has m features is by far the largest, and fresh memory costs most of the time.
    return (x @ directions.t()).sub_(x.square().sum(dim=-1, keepdim=True) / 2)


def performer_attention(qkv: Tensor, directions: Tensor, num_heads: int, scale: float) -> Tensor:
    """Every token attends to all of its map, in linear time.

    Args:
        qkv: queries, keys and values ``[B, H, W, 3C]``, ordered (q, k, v) x heads x head dim.
        directions: see :func:`orthogonal_features`; the same for all heads.
        num_heads: attention heads.
        scale: factor on the products of queries and keys.

    Returns:
        The attended values ``[B, H, W, C]`` in the dtype of ``qkv``, computed in at least float32.
    """
    dtype = torch.promote_types(qkv.dtype, torch.float32)
    tokens = qkv.flatten(1, 2).unflatten(-1, (3, num_heads, -1)).permute(2, 0, 3, 1, 4)
    q, k, v = tokens.to(dtype)  # each [B, heads, tokens, d]
    directions = directions.to(dtype)
    keys = exponents(k * scale**0.5, directions)  # [B, heads, tokens, m]
    # Each feature's largest key becomes 1, the queries carry the factor, and each query's largest feature becomes 1.
    # So every total is at least 1, whatever the inputs, and needs no constant beside it that would bias the estimate.
    peaks = keys.detach().amax(dim=-2, keepdim=True)
    keys = keys.sub_(peaks).exp_()
    queries = exponents(q * scale**0.5, directions).add_(peaks)
    queries = queries.sub_(queries.detach().amax(dim=-1, keepdim=True)).exp_()
    summary = keys.transpose(-2, -1) @ v  # [B, heads, m, d]
    total = queries @ keys.sum(dim=-2)[..., None]
    out = (queries @ summary) / total
    return out.permute(0, 2, 1, 3).reshape(*qkv.shape[:3], -1).to(qkv.dtype)


class PerformerAttention(nn.Module):
    """V1's projections around linear attention over the whole map.

    There is no relative position bias: it would need the weights of single pairs of tokens, which are never formed.

    The random features follow the module to other devices and precisions, and are no part of its state dict: they are
    drawn from ``seed``, so that a model built again is the same function. They stay until :func:`redraw_features`.
    """

    features: Tensor

    def __init__(self, options: AttentionOptions) -> None:
        super().__init__()
        self.num_heads = options.num_heads
        self.scale = (options.dim // options.num_heads) ** -0.5
        self.qkv = nn.Linear(options.dim, 3 * options.dim, bias=options.qkv_bias)
        self.proj = nn.Linear(options.dim, options.dim)
        self.proj_drop = nn.Dropout(options.proj_drop)
        self.seed = options.seed
        self.register_buffer('features', self.draw(options.seed).to(self.proj.weight.device), persistent=False)

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
