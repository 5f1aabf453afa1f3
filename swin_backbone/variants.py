"""The named sizes of Swin Transformer, V1 and V2, and of its relatives."""

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
        main_norm_every: V2's extra norm on the main branch after every so many blocks of a stage; 0 for none.
        window: side of a window; None for the default of the version.
    """

    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    versions: tuple[int, ...] = (1, 2)
    main_norm_every: int = 0
    window: int | None = None


# Swin V1 paper, section 3.3; Swin V2 paper, section 3.5. 'tiny-c24' is the released sibling of Swin-Mixer, with 24
# channels a head. 'giant' is the paper's SwinV2-G, whose weights were never released; 'giant-simmim' is what SimMIM
# released as SwinV2-giant. The heads of 'huge' and 'giant-simmim' are not published: 32 channels a head, as in every
# other size; a file's logit_scale settles them. The extra norm is counted within a stage, as in the authors' public
# code.
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

# The four released networks of Swin-MLP. The paper calls 'base' Swin-Mixer-B/D24; the released one has 32 channels a
# head.
MIXERS: dict[str, Variant] = {
    'tiny_c24': Variant(96, (2, 2, 6, 2), (4, 8, 16, 32), versions=(1,), window=8),
    'tiny_c12': Variant(96, (2, 2, 6, 2), (8, 16, 32, 64), versions=(1,), window=8),
    'tiny_c6': Variant(96, (2, 2, 6, 2), (16, 32, 64, 128), versions=(1,), window=8),
    'base': Variant(128, (2, 2, 18, 2), (4, 8, 16, 32), versions=(1,), window=7),
}

VIDEOS = {name: VARIANTS[name] for name in ('tiny', 'small', 'base', 'large')}
"""Those of Video Swin Transformer."""

DEFAULT_WINDOW = {1: 7, 2: 8}


def get_variant(name: str, version: int) -> Variant:
    """The sizes called ``name``, checked to exist in ``version``.

    Raises:
        InputError: the name is unknown, or was never published in this version.
    """
    if version not in DEFAULT_WINDOW:
        raise InputError(f'version must be 1 or 2, got {version!r}.')
    known = [key for key, variant in VARIANTS.items() if version in variant.versions]
    if name not in known:
        raise InputError(
            f'unknown variant {name!r} of Swin V{version}: use one of {", ".join(known)}, or None with sizes.'
        )
    return VARIANTS[name]
