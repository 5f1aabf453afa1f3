"""Constructor arguments: completion from the named variant, and checks."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from swin_backbone.attention.kernels import check_backend
from swin_backbone.attention.sliding import SLIDING
from swin_backbone.errors import InputError
from swin_backbone.variants import DEFAULT_WINDOW, get_variant

WINDOWS = ('window', 'shifted-cyclic', 'shifted-padding')
"""Methods of attention within windows."""

SHIFTED = ('shifted-cyclic', 'shifted-padding')
"""Methods of attention within windows that support a shift."""

METHODS = (*WINDOWS, *SLIDING, 'performer')
"""All methods of the Swin paper's Table 5."""

CHOICES = {
    'norm_order': {1: 'pre', 2: 'post'},
    'similarity': {1: 'dot', 2: 'cosine'},
    'position_bias': {1: 'table', 2: 'log'},
}
"""Default values by version of the options that differ between V1's and V2's blocks."""

SMALL_MAPS = ('pad', 'shrink')
"""Ways to handle maps that are no larger than a window."""

POSITION_BIASES = ('table', 'linear', 'log')
"""Kinds of position bias: V1's table, and V2's network of linear or log-spaced offsets."""


@dataclass(frozen=True)
class PositionEncoding:
    """The components of a ``position_encoding``.

    Attributes:
        absolute: whether an absolute embedding is added to the patches.
        relative: whether a relative position bias is added to the logits.
        content: whether the logits include the products of queries and keys.
    """

    absolute: bool = False
    relative: bool = False
    content: bool = True


POSITION_ENCODINGS = {
    'none': PositionEncoding(),
    'absolute': PositionEncoding(absolute=True),
    'relative': PositionEncoding(relative=True),
    'absolute+relative': PositionEncoding(absolute=True, relative=True),
    'relative-only': PositionEncoding(relative=True, content=False),
}


@dataclass(frozen=True)
class BackboneOptions:
    """Resolved options of a backbone, named as in :class:`swin_backbone.SwinTransformer`."""

    version: int
    norm_order: str
    similarity: str
    position_bias: str
    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    windows: tuple[tuple[int, int], ...]
    main_norm_every: int
    mlp_ratio: float
    qkv_bias: bool
    patch_size: int
    in_channels: int
    drop_rate: float
    attn_drop_rate: float
    drop_path_rate: float
    position_encoding: str
    shift: bool
    attention_method: str
    backend: str
    pretrain_grid: tuple[int, int]
    pretrained_window_sizes: tuple[int, ...]
    out_indices: tuple[int, ...]
    frozen_stages: int
    checkpointed_stages: tuple[int, ...]
    sequential_stages: tuple[int, ...]
    small_maps: str

    @property
    def num_stages(self) -> int:
        """Number of stages that are built; those after the last output are not."""
        return self.out_indices[-1] + 1

    @property
    def position(self) -> PositionEncoding:
        """The components of ``position_encoding``."""
        return POSITION_ENCODINGS[self.position_encoding]

    @property
    def shifted(self) -> bool:
        """Whether every other block shifts its windows."""
        return self.shift and self.attention_method in SHIFTED

    @property
    def post_norm(self) -> bool:
        """Whether norms are at the end of residual branches instead of the beginning."""
        return self.norm_order == 'post'

    @property
    def cosine(self) -> bool:
        """Whether logits are scaled cosines instead of dot products."""
        return self.similarity == 'cosine'

    def channels(self, index: int) -> int:
        """Return the channels of stage ``index``."""
        return self.embed_dim * 2**index

    def drop_path(self, index: int, number: int) -> float:
        """Return the drop path rate of block ``number`` of stage ``index``, linear over all blocks of the network."""
        last = sum(self.depths) - 1
        return self.drop_path_rate * (sum(self.depths[:index]) + number) / last if last else self.drop_path_rate


def resolve_options(
    *,
    variant: str | None,
    version: int,
    norm_order: str | None,
    similarity: str | None,
    position_bias: str | None,
    embed_dim: int | None,
    depths: Sequence[int] | None,
    num_heads: Sequence[int] | None,
    window_size: int | Sequence[int] | Sequence[Sequence[int]] | None,
    mlp_ratio: float,
    qkv_bias: bool,
    patch_size: int,
    in_channels: int,
    drop_rate: float,
    attn_drop_rate: float,
    drop_path_rate: float,
    position_encoding: str,
    shift: bool,
    attention_method: str,
    backend: str,
    pretrain_img_size: int | Sequence[int],
    pretrained_window_sizes: Sequence[int] | None,
    out_indices: Sequence[int],
    frozen_stages: int,
    with_cp: bool | Sequence[int],
    sequential: Sequence[int],
    small_maps: str,
) -> BackboneOptions:
    """Complete and check the constructor's arguments.

    Raises:
        InputError: if an argument is unknown, missing or incompatible with the others.
    """
    if version not in DEFAULT_WINDOW:
        raise InputError(f'version must be 1 or 2, got {version!r}.')
    main_norm_every = 0
    if variant is None:
        given = dict(embed_dim=embed_dim, depths=depths, num_heads=num_heads)
        absent = [name for name, value in given.items() if value is None]
        if absent:
            raise InputError(f'variant=None requires all sizes: give {", ".join(absent)} too, or a variant.')
    else:
        named = get_variant(variant, version)
        embed_dim = named.embed_dim if embed_dim is None else embed_dim
        depths = named.depths if depths is None else depths
        num_heads = named.num_heads if num_heads is None else num_heads
        main_norm_every = named.main_norm_every
    patch = check_positive(patch_size, 'patch_size')
    stage_depths = check_integers(depths, 'depths')
    height, width = check_pair(pretrain_img_size, 'pretrain_img_size')
    every_stage = tuple(range(len(stage_depths)))
    recomputed = (every_stage if with_cp else ()) if isinstance(with_cp, bool) else check_integers(with_cp, 'with_cp')
    options = BackboneOptions(
        version=version,
        norm_order=CHOICES['norm_order'][version] if norm_order is None else norm_order,
        similarity=CHOICES['similarity'][version] if similarity is None else similarity,
        position_bias=CHOICES['position_bias'][version] if position_bias is None else position_bias,
        embed_dim=check_positive(embed_dim, 'embed_dim'),
        depths=stage_depths,
        num_heads=check_integers(num_heads, 'num_heads'),
        windows=stage_windows(DEFAULT_WINDOW[version] if window_size is None else window_size, len(stage_depths)),
        main_norm_every=main_norm_every,
        mlp_ratio=mlp_ratio,
        qkv_bias=qkv_bias,
        patch_size=patch,
        in_channels=check_positive(in_channels, 'in_channels'),
        drop_rate=drop_rate,
        attn_drop_rate=attn_drop_rate,
        drop_path_rate=drop_path_rate,
        position_encoding=position_encoding,
        shift=shift,
        attention_method=attention_method,
        backend=backend,
        pretrain_grid=(height // patch, width // patch),
        pretrained_window_sizes=check_integers(
            pretrained_window_sizes or (0,) * len(every_stage), 'pretrained_window_sizes'
        ),
        out_indices=check_integers(out_indices, 'out_indices'),
        frozen_stages=frozen_stages,
        checkpointed_stages=recomputed,
        sequential_stages=check_integers(sequential, 'sequential'),
        small_maps=small_maps,
    )
    check_options(options)
    return options


def is_integer(value: object) -> bool:
    """Return whether ``value`` is an int but not a bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_positive(value: Any, name: str) -> int:
    """Return ``value`` if it is a positive integer; raise InputError otherwise."""
    if not is_integer(value) or value < 1:
        raise InputError(f'{name} must be a positive integer, got {value!r}.')
    return value


def check_integers(values: Any, name: str) -> tuple[int, ...]:
    """Return ``values`` as a tuple if they are non-negative integers; raise InputError otherwise."""
    if isinstance(values, str) or not isinstance(values, Sequence) or not all(is_integer(v) and v >= 0 for v in values):
        raise InputError(f'{name} must be a sequence of integers from 0 up, got {values!r}.')
    return tuple(values)


def check_pair(value: int | Sequence[int], name: str) -> tuple[int, int]:
    """Return a side, or (rows, columns), as (rows, columns); raise InputError if they are not positive integers."""
    both = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(both) != 2 or not all(is_integer(side) and side > 0 for side in both):
        raise InputError(f'{name} must be a positive integer or a pair (rows, columns) of them, got {value!r}.')
    return both


def stage_windows(value: Any, stages: int) -> tuple[tuple[int, int], ...]:
    """Return (rows, columns) of the windows of every stage; two integers are always rows and columns."""
    per_stage = isinstance(value, Sequence) and (len(value) != 2 or isinstance(value[0], Sequence))
    if per_stage and len(value) != stages:
        raise InputError(
            f'window_size must be a side, a pair (rows, columns), or one of them per stage ({stages}), got {value!r}.'
        )
    return tuple(check_pair(window, 'window_size') for window in (value if per_stage else [value] * stages))


def check_choice(value: str, known: Collection[str], name: str) -> str:
    """Return ``value`` if it is one of ``known``; raise InputError otherwise."""
    if value not in known:
        raise InputError(f'unknown {name} {value!r}: use one of {", ".join(known)}.')
    return value


def check_options(options: BackboneOptions) -> None:
    """Raise InputError for invalid or incompatible options."""
    stages = len(options.depths)
    check_choice(options.position_encoding, POSITION_ENCODINGS, 'position_encoding')
    check_choice(options.attention_method, METHODS, 'attention_method')
    check_choice(options.norm_order, CHOICES['norm_order'].values(), 'norm_order')
    check_choice(options.similarity, CHOICES['similarity'].values(), 'similarity')
    check_choice(options.position_bias, POSITION_BIASES, 'position_bias')
    check_choice(options.small_maps, SMALL_MAPS, 'small_maps')
    check_backend(options.backend)
    check_switches(options)
    for name in ('num_heads', 'pretrained_window_sizes'):
        if len(getattr(options, name)) != stages:
            raise InputError(f'{name} must have one value per stage ({stages}), got {getattr(options, name)}.')
    if not stages or min(options.depths) < 1:
        raise InputError(f'depths must have at least one stage, each with at least one block, got {options.depths}.')
    for index, heads in enumerate(options.num_heads):
        if heads < 1 or options.channels(index) % heads:
            raise InputError(f'stage {index} has {options.channels(index)} channels, not divisible by {heads} heads.')
    outs = options.out_indices
    if not outs or list(outs) != sorted(set(outs)) or outs[0] < 0 or outs[-1] >= stages:
        raise InputError(f'out_indices must be ascending stages from 0 to {stages - 1}, got {outs}.')
    if not -1 <= options.frozen_stages <= stages:
        raise InputError(f'frozen_stages must be from -1 to {stages}, got {options.frozen_stages}.')
    if any(index not in range(stages) for index in options.checkpointed_stages):
        raise InputError(f'with_cp must be a bool or stages from 0 to {stages - 1}, got {options.checkpointed_stages}.')
    if any(index not in range(stages) for index in options.sequential_stages):
        raise InputError(f'sequential must be stages from 0 to {stages - 1}, got {options.sequential_stages}.')
    for name in ('drop_rate', 'attn_drop_rate', 'drop_path_rate'):
        if not 0.0 <= getattr(options, name) < 1.0:
            raise InputError(f'{name} must be at least 0 and below 1, got {getattr(options, name)}.')


def check_switches(options: BackboneOptions) -> None:
    """Raise InputError for incompatible switches of the paper's ablations."""
    method, only = f'attention_method={options.attention_method!r}', "position_encoding='relative-only'"
    windows = options.attention_method in WINDOWS
    if not options.position.content and not windows:
        raise InputError(f'{only} needs windows, which {method} does not have: use one of {", ".join(WINDOWS)}.')
    if options.backend != 'auto' and (not options.position.content or not windows):
        raise InputError(
            f'backend={options.backend!r} is for window attention with queries and keys, which '
            f"{method if options.position.content else only} does not use: leave backend='auto'."
        )
    if not options.position.content or not windows:
        for name in ('similarity', 'position_bias'):
            if getattr(options, name) != CHOICES[name][options.version]:
                raise InputError(
                    f'{name}={getattr(options, name)!r} is for window attention with queries and keys, which '
                    f'{method if options.position.content else only} does not use: leave {name}=None.'
                )
        if options.sequential_stages:
            raise InputError(
                'sequential is for window attention with queries and keys, which '
                f'{method if options.position.content else only} does not use: leave sequential=().'
            )
    if options.small_maps != 'pad' and not windows:
        raise InputError(f"small_maps='shrink' is for windows, which {method} does not have: leave small_maps='pad'.")
    if not options.shift and not windows:
        raise InputError(f'shift=False is for windows, which {method} does not have: leave shift=True.')
    if options.attention_method == 'performer':
        if options.version != 1:
            raise InputError(
                f"{method} approximates the softmax of V1's dot products, not of V2's scaled cosines: use version=1, "
                f'or one of {", ".join((*WINDOWS, *SLIDING))}.'
            )
        if options.attn_drop_rate:
            raise InputError(f'{method} has no attention weights for dropout: set attn_drop_rate=0.')
