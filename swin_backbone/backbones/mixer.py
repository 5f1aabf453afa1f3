"""Swin-Mixer as a dense-prediction backbone: Swin Transformer with fixed mixing of tokens in place of attention.

The authors released four classifiers, under the name of Swin-MLP, and no detector or segmenter. What is ours: any image
size, output norms, and that odd blocks shift in every stage as long as the map is larger than a window. In the released
networks the last map is as large as a window, so its blocks were never trained with a shift.
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
    """V1's block with spatial mixing in place of attention, under the original name ``spatial_mlp``."""

    def take_attention(self, attn: nn.Module) -> None:
        """Make the mixing a part of the block, under its name in files."""
        self.spatial_mlp = attn

    def forward(self, x: Tensor, plan: WindowPlan) -> Tensor:
        """Transform ``[B, H, W, C]``; same shape out."""
        x = x + self.drop_path(self.spatial_mlp(self.norm1(x), plan, self.shifted))
        return x + self.drop_path(self.apply_mlp(self.norm2(x)))


def build_mixing(options: BackboneOptions, index: int, number: int) -> SpatialMixing:
    """The spatial mixing of block ``number`` of stage ``index``."""
    return SpatialMixing(options.num_heads[index], options.windows[index])


class SwinMixer(SwinTransformer):
    """Swin-Mixer (Liu et al., ICCV 2021, section 4 and Table 10; Swin-MLP in the original code).

    Arguments that are not listed, the maps and the methods are those of :class:`swin_backbone.SwinTransformer`.

    Args:
        variant: 'tiny_c24', 'tiny_c12', 'tiny_c6' (24, 12 and 6 channels a head, windows of 8) or 'base' (windows of
            7); None if all sizes below are given.
        embed_dim: channels of the first stage; stage ``i`` has ``2**i`` times as many. Overrides the variant.
        depths: blocks per stage. Overrides the variant.
        num_heads: heads per stage. Overrides the variant.
        window_size: side of a window in tokens, or (rows, columns), for all stages; or one of them per stage. The
            variant's by default, 7 without one. Weights belong to one window: those of another do not load.
        shift: False keeps the windows of all blocks in place (the paper's 'Swin-Mixer, no shift').

    Raises:
        InputError: an option is unknown or does not fit the others.
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
