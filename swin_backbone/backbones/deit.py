"""DeiT as a backbone for dense prediction: a plain vision transformer with deconvolutions for a pyramid of maps.

The Swin paper compares with such a network (Tables 2b and 3: feature maps by deconvolution, as in SETR), whose exact
architecture was never published. Our choices: the four maps are taken at a quarter, a half, three quarters and the end
of the depth, each with its own norm, as in Swin; and each doubling of resolution halves the channels. Parameters and
multiply-adds are within 1 % of the paper's; with deconvolutions of constant width they are up to 3 % above.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_backbone.backbones.argument_checks import check_image
from swin_backbone.backbones.global_block import GlobalBlock
from swin_backbone.backbones.swin import initialize
from swin_backbone.checkpoint.find import find_file
from swin_backbone.checkpoint.read import read_checkpoint
from swin_backbone.errors import InputError

LOGGER = logging.getLogger('swin_backbone')
EMBEDDING_STD = 0.02
NORM_EPS = 1e-6
LEVELS = 4
UNUSED = ('head.', 'head_dist.', 'norm.', 'dist_token')
"""Published weights that are used for classification only; the last norm is replaced by one per map."""


class PatchProjection(nn.Module):
    """Patch embedding: a convolution with kernel and stride ``patch_size``, after zero-padding to whole patches."""

    def __init__(self, patch_size: int, in_channels: int, embed_dim: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_channels, embed_dim, patch_size, patch_size)

    def forward(self, image: Tensor) -> Tensor:
        """Embed ``[B, in_channels, H, W]`` as ``[B, C, ceil(H / p), ceil(W / p)]``."""
        bottom, right = -image.shape[2] % self.patch_size, -image.shape[3] % self.patch_size
        return self.proj(F.pad(image, (0, right, 0, bottom)).to(self.proj.weight.dtype))


class DeiTPyramid(nn.Module):
    """DeiT (Touvron et al., ICML 2021), by default DeiT-S, with maps of strides 4, 8, 16 and 32.

    The parameters of the transformer have the names of the published weights. Any image size works: the position
    embedding is resized bicubically.

    Args:
        embed_dim: channels of the tokens, a multiple of 4.
        depth: blocks.
        num_heads: attention heads.
        mlp_ratio: hidden channels of an MLP as a multiple of ``embed_dim``.
        patch_size: side of a patch in pixels, a multiple of 4; the stride of the third map.
        in_channels: channels of the image.
        drop_path_rate: stochastic depth of the last block; earlier blocks grow linearly up to it from 0.
        pretrain_img_size: side of the pre-training images in pixels: the grid of the position embedding.
        out_indices: the blocks whose tokens become the maps, from the finest to the coarsest map.
        init_cfg: ``dict(type='Pretrained', checkpoint=...)`` with a path or URL of published weights.

    Raises:
        InputError: if the options are incompatible.
    """

    def __init__(
        self,
        embed_dim: int = 384,
        depth: int = 12,
        num_heads: int = 6,
        mlp_ratio: float = 4.0,
        patch_size: int = 16,
        in_channels: int = 3,
        drop_path_rate: float = 0.1,
        pretrain_img_size: int = 224,
        out_indices: Sequence[int] = (2, 5, 8, 11),
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_options(embed_dim, depth, num_heads, patch_size, out_indices)
        self.out_indices = tuple(out_indices)
        self.patch_size = patch_size
        self.in_channels = in_channels
        self.init_cfg = init_cfg
        self.patch_embed = PatchProjection(patch_size, in_channels, embed_dim)
        self.cls_token = nn.Parameter(torch.empty(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + (pretrain_img_size // patch_size) ** 2, embed_dim))
        rates = [drop_path_rate * i / max(depth - 1, 1) for i in range(max(out_indices) + 1)]
        self.blocks = nn.ModuleList(GlobalBlock(embed_dim, num_heads, mlp_ratio, rate, NORM_EPS) for rate in rates)
        self.out_norms = nn.ModuleList(nn.LayerNorm(embed_dim, eps=NORM_EPS) for _ in out_indices)
        self.pyramid = build_pyramid(embed_dim)
        self.apply(initialize)
        for embedding in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(embedding, std=EMBEDDING_STD)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Compute four maps from an image ``[B, in_channels, H, W]``.

        Returns:
            Maps ``[B, C_i, ceil(H / s), ceil(W / s)]`` of strides ``s`` 4, 8, 16 and 32 (for patches of 16), where
            ``C_i`` is ``embed_dim`` times 1/4, 1/2, 1 and 1.

        Raises:
            InputError: if the image has a wrong shape.
        """
        check_image(image, self.in_channels)
        patches = self.patch_embed(image)
        grid = (patches.shape[2], patches.shape[3])
        x = torch.cat([self.cls_token.expand(len(image), -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
        x = x + resize_embedding(self.pos_embed, grid)
        tokens = []
        for block in self.blocks:
            x = block(x)
            tokens.append(x)
        maps = []
        for level, index in enumerate(self.out_indices):
            level_tokens = self.out_norms[level](tokens[index][:, 1:])
            raised = self.pyramid[level](level_tokens.transpose(1, 2).unflatten(2, grid))
            stride = self.patch_size * 2**level // 4
            # Cells beyond these come only from the padding of the image.
            maps.append(raised[:, :, : -(-image.shape[2] // stride), : -(-image.shape[3] // stride)].contiguous())
        return tuple(maps)

    def init_weights(self) -> None:
        """Apply ``init_cfg``; mmengine calls this before training. Without ``init_cfg``, it changes no weights.

        Raises:
            InputError: if the weights cannot be read, or do not cover the transformer.
        """
        if self.init_cfg is None:
            return
        if self.init_cfg.get('type') == 'Pretrained':
            load_deit(self, self.init_cfg['checkpoint'])
            return
        from mmengine.model import initialize as mmengine_initialize

        mmengine_initialize(self, self.init_cfg)


def check_options(embed_dim: int, depth: int, num_heads: int, patch_size: int, out_indices: Sequence[int]) -> None:
    """Raise InputError for incompatible sizes."""
    if embed_dim % num_heads or embed_dim % 4:
        raise InputError(f'embed_dim must be a multiple of 4 and of num_heads, got {embed_dim} and {num_heads}.')
    if patch_size % 4:
        raise InputError(f'patch_size must be a multiple of 4, the ratio to the finest map, got {patch_size}.')
    if len(out_indices) != LEVELS or not all(0 <= index < depth for index in out_indices):
        raise InputError(f'out_indices must be {LEVELS} of the blocks 0 to {depth - 1}, got {tuple(out_indices)}.')


def build_pyramid(dim: int) -> nn.ModuleList:
    """Create the layers that resize maps with a stride of one patch to a quarter, a half, one and two patches."""
    finest = nn.Sequential(
        nn.ConvTranspose2d(dim, dim // 2, 2, 2),
        nn.GroupNorm(1, dim // 2),
        nn.GELU(),
        nn.ConvTranspose2d(dim // 2, dim // 4, 2, 2),
    )
    coarsest = nn.MaxPool2d(2, 2, ceil_mode=True)
    return nn.ModuleList([finest, nn.ConvTranspose2d(dim, dim // 2, 2, 2), nn.Identity(), coarsest])


def resize_embedding(embedding: Tensor, grid: tuple[int, int]) -> Tensor:
    """Resize the embedding of a class token and a square grid ``[1, 1 + N, C]`` to ``grid`` (bicubic)."""
    side = round((embedding.shape[1] - 1) ** 0.5)
    if grid == (side, side):
        return embedding
    square = embedding[:, 1:].transpose(1, 2).unflatten(2, (side, side))
    resized = F.interpolate(square, size=grid, mode='bicubic', align_corners=False)
    return torch.cat([embedding[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)


def load_deit(model: DeiTPyramid, source: str) -> None:
    """Load published DeiT weights; norms of the maps and the pyramid keep their initial values.

    The distillation token of distilled models is dropped, and a position embedding of another grid is resized.

    Raises:
        InputError: if the file cannot be read, or its weights do not match the transformer of ``model``.
    """
    contents: Mapping[Any, Any] = read_checkpoint(find_file(source))
    state = dict(contents.get('model', contents))
    embedding, expected = state.get('pos_embed'), model.pos_embed.shape
    if isinstance(embedding, Tensor) and embedding.dim() == 3:
        if 'dist_token' in state:
            embedding = torch.cat([embedding[:, :1], embedding[:, 2:]], dim=1)
        side = round((expected[1] - 1) ** 0.5)
        state['pos_embed'] = resize_embedding(embedding, (side, side))
    wanted = {name: value for name, value in model.named_parameters() if not name.startswith(('out_norms', 'pyramid'))}
    depth = len(model.blocks)
    extra = {
        name for name in state.keys() - wanted.keys() if not name.startswith(UNUSED) and not is_unused(name, depth)
    }
    misfit = [name for name, value in wanted.items() if getattr(state.get(name), 'shape', None) != value.shape]
    if extra or misfit:
        raise InputError(
            f'{source} does not match this DeiT: {len(misfit)} of its {len(wanted)} parameters are missing or have '
            f'another shape ({", ".join(misfit[:3])}), {len(extra)} keys are unexpected '
            f'({", ".join(sorted(extra)[:3])}); give DeiT weights of the same size as this backbone.'
        )
    with torch.no_grad():
        for name, value in wanted.items():
            value.copy_(state[name])
    LOGGER.info('%s: loaded all %d parameters of DeiT; new: the pyramid and its norms', source, len(wanted))


def is_unused(name: str, depth: int) -> bool:
    """Return whether a parameter belongs to a block after the last one that is built."""
    parts = name.split('.')
    return parts[0] == 'blocks' and parts[1].isdigit() and int(parts[1]) >= depth
