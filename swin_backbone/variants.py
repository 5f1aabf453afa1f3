"""The named sizes of Swin Transformer V1 and V2, Swin-Mixer and Video Swin Transformer."""

from dataclasses import dataclass

from swin_backbone.errors import InputError


@dataclass(frozen=True)
class Variant:
    """Sizes of one network.

    Attributes:
        embed_dim: channels after the patch embedding; stage ``i`` has ``embed_dim * 2**i``.
        depths: blocks per stage.
        num_heads: attention heads per stage.
        versions: the versions (1, 2) that were published in this size.
        main_norm_every: number of blocks of a stage between V2's extra norms on the main branch; 0 for no norms.
        window: side of a window; None for the default of the version.
    """

    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    versions: tuple[int, ...] = (1, 2)
    main_norm_every: int = 0
    window: int | None = None


# Swin V1 paper, section 3.3; Swin V2 paper, section 3.5. 'tiny-c24' was released for comparison with Swin-Mixer and has
# 24 channels per head. 'giant' is the paper's SwinV2-G, whose weights were never released; 'giant-simmim' is the model
# that SimMIM released as SwinV2-giant. The numbers of heads of 'huge' and 'giant-simmim' were not published: they
# assume 32 channels per head, as in all other sizes; the logit_scale of a file shows the true number. The blocks
# between extra norms are counted within a stage, as in the authors' public code.
VARIANTS: dict[str, Variant] = {
    'tiny': Variant(96, (2, 2, 6, 2), (3, 6, 12, 24)),
    'tiny-c24': Variant(96, (2, 2, 6, 2), (4, 8, 16, 32), versions=(1,)),
    'small': Variant(96, (2, 2, 18, 2), (3, 6, 12, 24)),
    'base': Variant(128, (2, 2, 18, 2), (4, 8, 16, 32)),
    'large': Variant(192, (2, 2, 18, 2), (6, 12, 24, 48)),
    'huge': Variant(352, (2, 2, 18, 2), (11, 22, 44, 88), versions=(2,), main_norm_every=6),
    'giant-simmim': Variant(448, (2, 2, 18, 2), (14, 28, 56, 112), versions=(2,), main_norm_every=6),
    'giant': Variant(512, (2, 2, 42, 4), (16, 32, 64, 128), versions=(2,), main_norm_every=6),
}

# The four released networks of Swin-MLP. The paper names 'base' Swin-Mixer-B/D24; the released one has 32 channels per
# head.
MIXERS: dict[str, Variant] = {
    'tiny_c24': Variant(96, (2, 2, 6, 2), (4, 8, 16, 32), versions=(1,), window=8),
    'tiny_c12': Variant(96, (2, 2, 6, 2), (8, 16, 32, 64), versions=(1,), window=8),
    'tiny_c6': Variant(96, (2, 2, 6, 2), (16, 32, 64, 128), versions=(1,), window=8),
    'base': Variant(128, (2, 2, 18, 2), (4, 8, 16, 32), versions=(1,), window=7),
}

VIDEOS = {name: VARIANTS[name] for name in ('tiny', 'small', 'base', 'large')}
"""The sizes of Video Swin Transformer."""

DEFAULT_WINDOW = {1: 7, 2: 8}


def get_variant(name: str, version: int) -> Variant:
    """Return the sizes of a variant of a version.

    Raises:
        InputError: if the name is unknown, or was not published in this version.
    """
    if version not in DEFAULT_WINDOW:
        raise InputError(f'version must be 1 or 2, got {version!r}.')
    known = [key for key, variant in VARIANTS.items() if version in variant.versions]
    if name not in known:
        raise InputError(
            f'unknown variant {name!r} of Swin V{version}: use one of {", ".join(known)}, or None with sizes.'
        )
    return VARIANTS[name]
