"""Linear attention over a whole map: FAVOR+ (Choromanski et al., Rethinking attention with Performers, ICLR 2021).

The softmax kernel ``exp(q . k)`` is the mean of ``exp(w . q - |q|^2 / 2) exp(w . k - |k|^2 / 2)`` over Gaussian ``w``.
With a finite number of ``w``, keys and values are summed before they are multiplied by queries, so the cost is linear
in the number of tokens instead of quadratic. The ``w`` are orthogonal in blocks, which reduces the variance.
"""

import math

import torch
from torch import Tensor, nn

from swin_backbone.attention.position_encoding import without_autocast
from swin_backbone.attention.window import AttentionOptions
from swin_backbone.attention.window_plan import WindowPlan


def default_features(head_dim: int) -> int:
    """Return the number of random features per head: ``d ln d``, as in the paper's bound (111 for ``d`` of 32)."""
    return max(1, round(head_dim * math.log(head_dim)))


def orthogonal_features(count: int, head_dim: int, seed: int) -> Tensor:
    """Draw directions ``[count, d]``, orthogonal in blocks of ``d``, with lengths of Gaussian vectors; float32, CPU."""
    generator = torch.Generator('cpu').manual_seed(seed)
    blocks = -(-count // head_dim)
    gaussian = torch.randn(blocks, head_dim, head_dim, generator=generator, device='cpu')
    lengths = torch.randn(count, head_dim, generator=generator, device='cpu').norm(dim=1, keepdim=True)
    # The signs make the rotations uniformly distributed, which those of the QR decomposition alone are not.
    rotations, triangular = torch.linalg.qr(gaussian)
    signs = torch.where(triangular.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0)
    rows = (rotations * signs[:, None, :]).transpose(1, 2).flatten(0, 1)
    return rows[:count] * lengths


def exponents(x: Tensor, directions: Tensor) -> Tensor:
    """Return the logarithms of the random features ``[..., tokens, m]`` of scaled ``x`` ``[..., tokens, d]``."""
    # In place, here and below: allocating tensors with m features would take most of the time.
    return (x @ directions.t()).sub_(x.square().sum(dim=-1, keepdim=True) / 2)


def performer_attention(qkv: Tensor, directions: Tensor, num_heads: int, scale: float) -> Tensor:
    """Attend from every token to the whole map, in linear time.

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
    # Each feature is divided by its largest key, the queries are multiplied by the same factor, and then each query is
    # divided by its largest feature. So every total is at least 1, and no constant is needed that would add a bias.
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

    There is no relative position bias: it would need the weights of pairs of tokens, which are never computed.

    The random features are a non-persistent buffer, drawn from ``seed``, so that a model that is built again computes
    the same function. They are constant unless :func:`redraw_features` is called.
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
        """Draw random features ``[m, d]``."""
        head_dim = self.proj.in_features // self.num_heads
        return orthogonal_features(default_features(head_dim), head_dim, seed)

    def forward(self, x: Tensor, plan: WindowPlan, shifted: bool) -> Tensor:
        """Attend over all of ``x`` ``[B, H, W, C]``; same shape out. ``plan`` and ``shifted`` are ignored."""
        qkv = self.qkv(x)
        with without_autocast(x.device.type):
            out = performer_attention(qkv, self.features, self.num_heads, self.scale)
        return self.proj_drop(self.proj(out))


def redraw_features(model: nn.Module, seed: int) -> None:
    """Draw new random features for every Performer of ``model``. State dicts do not contain them: keep ``seed``."""
    for number, module in enumerate(m for m in model.modules() if isinstance(m, PerformerAttention)):
        with torch.no_grad():
            module.features.copy_(module.draw(seed + number))
