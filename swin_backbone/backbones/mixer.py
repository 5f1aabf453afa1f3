"""Swin-Mixer as a backbone for dense prediction: Swin Transformer with spatial mixing instead of attention.

The authors released four classifiers, named Swin-MLP, but no detectors or segmenters. Our additions: any image size,
output norms, and shifts in every second block of all stages if the map is larger than a window. In the released
networks the last map is as large as a window, so the blocks of the last stage were never trained with a shift.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from swin_backbone.attention.spatial_mixing import SpatialMixing
from swin_backbone.attention.window_plan import WindowPlan
from swin_backbone.backbones.blocks import SwinBlock
from swin_backbone.backbones.options import BackboneOptions, resolve_options
from swin_backbone.backbones.stages import Parts
from swin_backbone.backbones.swin import InitConfig, SwinTransformer
from swin_backbone.errors import InputError
from swin_backbone.variants import DEFAULT_WINDOW, MIXERS


class MixerBlock(SwinBlock):
    """V1's block with spatial mixing instead of attention, under the original name ``spatial_mlp``."""

    def set_attention(self, attn: nn.Module) -> None:
        """Register the mixing under its name in state dicts."""
        self.spatial_mlp = attn

    def forward(self, x: Tensor, plan: WindowPlan) -> Tensor:
        """Transform ``[B, H, W, C]``; same shape out."""
        x = x + self.drop_path(self.spatial_mlp(self.norm1(x), plan, self.shifted))
        return x + self.drop_path(self.apply_mlp(self.norm2(x)))


def build_mixing(options: BackboneOptions, index: int, number: int) -> SpatialMixing:
    """Create the spatial mixing of a block of stage ``index``."""
    return SpatialMixing(options.num_heads[index], options.windows[index])


class SwinMixer(SwinTransformer):
    """Swin-Mixer (Liu et al., ICCV 2021, section 4 and Table 10; Swin-MLP in the original code).

    Maps, methods, and arguments that are not listed are those of :class:`swin_backbone.SwinTransformer`.

    Args:
        variant: 'tiny_c24', 'tiny_c12', 'tiny_c6' (24, 12 and 6 channels per head, windows of 8) or 'base' (windows of
            7); None if all sizes below are given.
        embed_dim: channels of the first stage; stage ``i`` has ``2**i`` times as many. Overrides the variant.
        depths: blocks per stage. Overrides the variant.
        num_heads: heads per stage. Overrides the variant.
        window_size: side of a window in tokens, or (rows, columns), for all stages; or one of these per stage. By
            default that of the variant, or 7 without a variant. Weights of another window cannot be loaded.
        shift: whether every second block shifts its windows (False: the paper's 'Swin-Mixer, no shift').

    Raises:
        InputError: if an option is unknown, or incompatible with the others.
    """

    parts = Parts(blocks=(MixerBlock,), attention=build_mixing)

    def __init__(
        self,
        variant: str | None = 'tiny_c24',
        embed_dim: int | None = None,
        depths: Sequence[int] | None = None,
        num_heads: Sequence[int] | None = None,
        window_size: int | Sequence[int] | Sequence[Sequence[int]] | None = None,
        mlp_ratio: float = 4.0,
        patch_size: int = 4,
        in_channels: int = 3,
        patch_norm: bool = True,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.2,
        shift: bool = True,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        with_cp: bool | Sequence[int] = False,
        init_cfg: InitConfig = None,
    ) -> None:
        nn.Module.__init__(self)
        if variant is not None and variant not in MIXERS:
            raise InputError(
                f'unknown variant {variant!r} of Swin-Mixer: use one of {", ".join(MIXERS)}, or None with sizes.'
            )
        named = None if variant is None else MIXERS[variant]
        if named is not None:
            embed_dim = named.embed_dim if embed_dim is None else embed_dim
            depths = named.depths if depths is None else depths
            num_heads = named.num_heads if num_heads is None else num_heads
        default = DEFAULT_WINDOW[1] if named is None else named.window
        options = resolve_options(
            variant=None,
            version=1,
            norm_order=None,
            similarity=None,
            position_bias=None,
            embed_dim=embed_dim,
            depths=depths,
            num_heads=num_heads,
            window_size=default if window_size is None else window_size,
            mlp_ratio=mlp_ratio,
            qkv_bias=True,
            patch_size=patch_size,
            in_channels=in_channels,
            drop_rate=drop_rate,
            attn_drop_rate=0.0,
            drop_path_rate=drop_path_rate,
            position_encoding='none',
            shift=shift,
            attention_method='shifted-cyclic',
            backend='auto',
            pretrain_img_size=224,
            pretrained_window_sizes=None,
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            with_cp=with_cp,
            sequential=(),
            small_maps='pad',
        )
        self.build(options, patch_norm, init_cfg)
