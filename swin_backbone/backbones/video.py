"""Video Swin Transformer as a backbone for dense prediction: from a clip to a pyramid of feature maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from swin_backbone.attention.window import AttentionOptions
from swin_backbone.attention.window_3d import Sides, VolumeAttention, VolumePlan
from swin_backbone.backbones.blocks import PatchEmbed, PatchMerging, Stage
from swin_backbone.backbones.options import BackboneOptions, check_positive, resolve_options
from swin_backbone.backbones.stages import Parts
from swin_backbone.backbones.swin import InitConfig, SwinTransformer
from swin_backbone.errors import InputError
from swin_backbone.variants import VIDEOS

BACKENDS = ('auto', 'sdpa', 'eager')


@dataclass(frozen=True)
class VideoOptions(BackboneOptions):
    """Resolved options of a video backbone.

    Attributes:
        frames: length of a window in time, in tokens.
        patch_frames: length of a patch in time, in frames.
        exact_offsets: see :class:`VideoSwinTransformer`.
    """

    frames: int
    patch_frames: int
    exact_offsets: bool


class ClipEmbed(PatchEmbed):
    """Patch embedding of a clip: a convolution over frames, rows and columns, and a norm."""

    def __init__(self, patch: Sides, in_channels: int, embed_dim: int, patch_norm: bool) -> None:
        nn.Module.__init__(self)
        self.patch = patch
        self.proj = nn.Conv3d(in_channels, embed_dim, kernel_size=patch, stride=patch)  # type: ignore[assignment]
        self.norm = nn.LayerNorm(embed_dim) if patch_norm else nn.Identity()

    def forward(self, clip: Tensor) -> Tensor:
        """Embed ``[B, in_channels, T, H, W]``, zero-padded to whole patches, as ``[B, T/p, H/p, W/p, C]``."""
        after, bottom, right = (-size % side for size, side in zip(clip.shape[2:], self.patch, strict=True))
        if after or bottom or right:
            clip = F.pad(clip, (0, right, 0, bottom, 0, after))
        return self.norm(self.proj(clip).movedim(1, -1))


class FrameMerging(PatchMerging):
    """Patch merging within every frame; the number of frames does not change."""

    def forward(self, x: Tensor) -> Tensor:
        """Merge ``[B, T, H, W, C]`` to ``[B, T, ceil(H/2), ceil(W/2), 2C]``."""
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class VideoStage(Stage):
    """The blocks of one resolution, for maps of clips ``[B, T, H, W, C]``."""

    def plan(self, x: Tensor) -> VolumePlan:  # type: ignore[override]
        """Return the window plan of ``x``."""
        attention: Any = self.blocks[0].attn
        return VolumePlan((x.shape[1], x.shape[2], x.shape[3]), attention.window)


def build_attention(options: Any, index: int, number: int) -> VolumeAttention:
    """Create the attention of block ``number`` of stage ``index``."""
    given = AttentionOptions(
        dim=options.channels(index),
        window=options.windows[index],
        num_heads=options.num_heads[index],
        qkv_bias=options.qkv_bias,
        attn_drop=options.attn_drop_rate,
        proj_drop=options.drop_rate,
        relative_bias=False,  # VolumeAttention creates a table of three axes
        backend=options.backend,
    )
    return VolumeAttention(given, options.frames, options.exact_offsets)


class VideoSwinTransformer(SwinTransformer):
    """Video Swin Transformer (Liu et al., CVPR 2022).

    Methods, and arguments that are not listed, are those of :class:`swin_backbone.SwinTransformer`. Maps equal those of
    the original code, mmaction2 and torchvision for clips of any size, which are padded to whole patches. Weights of an
    image backbone are inflated when they are loaded.

    Args:
        variant: 'tiny', 'small', 'base' or 'large'; None if all sizes below are given.
        embed_dim: channels of the first stage; stage ``i`` has ``2**i`` times as many. Overrides the variant.
        depths: blocks per stage. Overrides the variant.
        num_heads: attention heads per stage. Overrides the variant.
        window_size: frames, rows and columns of a window in tokens: (8, 7, 7), and (16, 7, 7) for
            Something-Something v2.
        patch_size: frames, rows and columns of a patch, rows and columns equal.
        exact_offsets: whether windows that are clipped to a smaller map, in rows or columns, use the position biases of
            their true offsets. False indexes them as full windows, as the original code does, which gives the biases
            of other offsets. Both are the same for images of 224 pixels and more.
        backend: implementation of window attention: 'sdpa', 'eager' or 'auto'.

    Raises:
        InputError: if an option is unknown, or incompatible with the others.
    """

    parts = Parts(merging=FrameMerging, stage=VideoStage, attention=build_attention)
    options: VideoOptions

    def __init__(
        self,
        variant: str | None = 'tiny',
        embed_dim: int | None = None,
        depths: Sequence[int] | None = None,
        num_heads: Sequence[int] | None = None,
        window_size: Sequence[int] = (8, 7, 7),
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        patch_size: Sequence[int] = (2, 4, 4),
        in_channels: int = 3,
        patch_norm: bool = True,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        exact_offsets: bool = False,
        backend: str = 'auto',
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        with_cp: bool | Sequence[int] = False,
        init_cfg: InitConfig = None,
    ) -> None:
        nn.Module.__init__(self)
        if variant is not None and variant not in VIDEOS:
            raise InputError(
                f'unknown variant {variant!r} of Video Swin Transformer: use one of {", ".join(VIDEOS)}, or None with '
                'sizes.'
            )
        if backend not in BACKENDS:
            raise InputError(f'backend={backend!r} does not support clips: use one of {", ".join(BACKENDS)}.')
        frames, rows, cols = three_integers(window_size, 'window_size')
        patch = three_integers(patch_size, 'patch_size')
        if patch[1] != patch[2]:
            raise InputError(f'patch_size must have equal rows and columns, got {patch_size!r}.')
        options = resolve_options(
            variant=variant,
            version=1,
            norm_order=None,
            similarity=None,
            position_bias=None,
            embed_dim=embed_dim,
            depths=depths,
            num_heads=num_heads,
            window_size=(rows, cols),
            mlp_ratio=mlp_ratio,
            qkv_bias=qkv_bias,
            patch_size=patch[1],
            in_channels=in_channels,
            drop_rate=drop_rate,
            attn_drop_rate=attn_drop_rate,
            drop_path_rate=drop_path_rate,
            position_encoding='relative',
            shift=True,
            attention_method='shifted-cyclic',
            backend=backend,
            pretrain_img_size=224,
            pretrained_window_sizes=None,
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            with_cp=with_cp,
            sequential=(),
            small_maps='pad',
        )
        known: dict[str, Any] = vars(options)
        video = VideoOptions(**known, frames=frames, patch_frames=patch[0], exact_offsets=exact_offsets)
        self.build(video, patch_norm, init_cfg)

    def forward(self, clip: Tensor) -> tuple[Tensor, ...]:
        """Compute the maps of ``out_indices`` from a clip ``[B, in_channels, T, H, W]``.

        Returns:
            One map ``[B, embed_dim * 2**i, ceil(T / 2), ceil(H / 2**(i+2)), ceil(W / 2**(i+2))]`` per output stage
            ``i`` (for patches of 2x4x4), in the dtype of the weights, or of autocast.

        Raises:
            InputError: if the clip has a wrong shape.
        """
        return super().forward(clip)

    def build_embedding(self, patch_norm: bool) -> PatchEmbed:
        """Create the patch embedding."""
        options = self.options
        patch = (options.patch_frames, options.patch_size, options.patch_size)
        return ClipEmbed(patch, options.in_channels, options.embed_dim, patch_norm)

    def check_input(self, clip: Tensor) -> None:
        """Raise InputError if ``clip`` is not a floating-point tensor ``[B, in_channels, T, H, W]``."""
        channels = self.options.in_channels
        if not isinstance(clip, Tensor) or not clip.is_floating_point():
            kind = clip.dtype if isinstance(clip, Tensor) else type(clip).__name__
            raise InputError(f'expected a clip of normalised floating-point values, got {kind}: convert it first.')
        if clip.dim() != 5 or clip.shape[1] != channels or 0 in clip.shape[2:]:
            raise InputError(
                f'expected a clip [B, {channels}, T, H, W] with T, H and W at least 1, got {tuple(clip.shape)}: check '
                'the layout, and in_channels of the backbone.'
            )


def three_integers(value: Any, name: str) -> Sides:
    """Return frames, rows and columns as a tuple.

    Raises:
        InputError: if ``value`` is not three positive integers.
    """
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 3:
        raise InputError(f'{name} must be three positive integers (frames, rows, columns), got {value!r}.')
    frames, rows, cols = (check_positive(side, name) for side in value)
    return frames, rows, cols
