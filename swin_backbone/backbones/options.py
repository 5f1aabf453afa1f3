"""The constructor's arguments, checked and completed from the named variant."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from swin_backbone.attention.kernels import check_backend
from swin_backbone.attention.sliding import SLIDING
from swin_backbone.errors import InputError
from swin_backbone.variants import DEFAULT_WINDOW, get_variant

WINDOWS = ('window', 'shifted-cyclic', 'shifted-padding')
"""Methods of attention within windows; how those of shifted blocks are cut is up to their plans."""

METHODS = (*WINDOWS, *SLIDING, 'performer')
"""All methods of the Swin paper's Table 5."""

POSITION_ENCODINGS = ('none', 'absolute', 'relative', 'absolute+relative', 'relative-only')


@dataclass(frozen=True)
class BackboneOptions:
    """Everything that shapes a backbone; the names are those of :class:`swin_backbone.SwinTransformer`."""

    version: int
    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    window: tuple[int, int]
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

    @property
    def num_stages(self) -> int:
        """Stages that are built: none after the last output."""
        return self.out_indices[-1] + 1

    @property
    def absolute(self) -> bool:
        """Whether an absolute position embedding is added to the patches."""
        return 'absolute' in self.position_encoding

    @property
    def relative(self) -> bool:
        """Whether a relative position bias is added to the logits."""
        return 'relative' in self.position_encoding

    @property
    def relative_only(self) -> bool:
        """Whether the relative position bias is all there is to the logits."""
        return self.position_encoding == 'relative-only'

    @property
    def shifted(self) -> bool:
        """Whether every other block displaces its windows."""
        return self.shift and self.attention_method.startswith('shifted-')

    def channels(self, index: int) -> int:
        """Channels of stage ``index``."""
        return self.embed_dim * 2**index

    def drop_path(self, index: int, number: int) -> float:
        """Stochastic depth of block ``number`` of stage ``index``, linear over the blocks of the whole network."""
        last = sum(self.depths) - 1
        return self.drop_path_rate * (sum(self.depths[:index]) + number) / last if last else self.drop_path_rate


def resolve_options(
    variant: str | None,
    version: int,
    embed_dim: int | None,
    depths: Sequence[int] | None,
    num_heads: Sequence[int] | None,
    window_size: int | Sequence[int] | None,
    pretrain_img_size: int | Sequence[int],
    pretrained_window_sizes: Sequence[int] | None,
    out_indices: Sequence[int],
    with_cp: bool | Sequence[int],
    **plain: Any,
) -> BackboneOptions:
    """Complete and check the constructor's arguments.

    Raises:
        InputError: one of them is unknown, missing or does not fit the others.
    """
    if version not in DEFAULT_WINDOW:
        raise InputError(f'version must be 1 or 2, got {version!r}.')
    sizes: dict[str, Any] = dict(embed_dim=embed_dim, depths=depths, num_heads=num_heads)
    main_norm_every = 0
    if variant is None:
        absent = [name for name, value in sizes.items() if value is None]
        if absent:
            raise InputError(f'variant=None needs every size: give {", ".join(absent)} too, or name a variant.')
    else:
        named = get_variant(variant, version)
        sizes = {name: getattr(named, name) if value is None else value for name, value in sizes.items()}
        main_norm_every = named.main_norm_every
    depths, heads = tuple(sizes['depths']), tuple(sizes['num_heads'])
    patch = plain['patch_size']
    img_h, img_w = pair(pretrain_img_size, 'pretrain_img_size')
    options = BackboneOptions(
        version=version,
        embed_dim=sizes['embed_dim'],
        depths=depths,
        num_heads=heads,
        window=pair(DEFAULT_WINDOW[version] if window_size is None else window_size, 'window_size'),
        main_norm_every=main_norm_every,
        pretrain_grid=(img_h // patch, img_w // patch),
        pretrained_window_sizes=tuple(pretrained_window_sizes or (0,) * len(depths)),
        out_indices=tuple(out_indices),
        checkpointed_stages=tuple(range(len(depths))) if with_cp is True else tuple(with_cp or ()),
        **plain,
    )
    check_options(options)
    return options


def pair(value: int | Sequence[int], name: str) -> tuple[int, int]:
    """``value`` as (rows, columns), positive integers."""
    both = (value, value) if isinstance(value, int) else tuple(value)
    if len(both) != 2 or not all(isinstance(side, int) and side > 0 for side in both):
        raise InputError(f'{name} must be a positive integer or a pair (rows, columns) of them, got {value!r}.')
    return both


def one_of(value: str, known: tuple[str, ...], name: str) -> str:
    """``value``, if it is one of ``known``."""
    if value not in known:
        raise InputError(f'unknown {name} {value!r}: use one of {", ".join(known)}.')
    return value


def check_options(options: BackboneOptions) -> None:
    """Refuse options that do not fit each other, each with its own sentence."""
    stages = len(options.depths)
    one_of(options.position_encoding, POSITION_ENCODINGS, 'position_encoding')
    one_of(options.attention_method, METHODS, 'attention_method')
    check_backend(options.backend)
    check_switches(options)
    for name in ('num_heads', 'pretrained_window_sizes'):
        if len(getattr(options, name)) != stages:
            raise InputError(f'{name} must have one value per stage ({stages}), got {getattr(options, name)}.')
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
    if options.patch_size < 1 or options.in_channels < 1:
        raise InputError(
            f'patch_size and in_channels must be positive, got {options.patch_size}, {options.in_channels}.'
        )
    for name in ('drop_rate', 'attn_drop_rate', 'drop_path_rate'):
        if not 0.0 <= getattr(options, name) < 1.0:
            raise InputError(f'{name} must be at least 0 and below 1, got {getattr(options, name)}.')


def check_switches(options: BackboneOptions) -> None:
    """Refuse switches of the paper's ablations that have no meaning together."""
    method, only = f'attention_method={options.attention_method!r}', "position_encoding='relative-only'"
    windows = options.attention_method in WINDOWS
    if options.relative_only and not windows:
        raise InputError(f'{only} is about windows, {method} has none: use one of {", ".join(WINDOWS)}.')
    if options.backend != 'auto' and (options.relative_only or not windows):
        raise InputError(
            f'backend={options.backend!r} is a way to compute window attention with queries and keys, which '
            f"{only if options.relative_only else method} does without: leave backend='auto'."
        )
    if not options.shift and not windows:
        raise InputError(f'shift=False keeps windows in place, {method} has none: leave shift=True.')
    if options.attention_method == 'performer':
        if options.version != 1:
            raise InputError(
                f"{method} approximates the softmax of V1's dot products, not of V2's cosines times a learned scale: "
                f'use version=1, or one of {", ".join((*WINDOWS, *SLIDING))}.'
            )
        if options.attn_drop_rate:
            raise InputError(f'{method} forms no attention weights that could be dropped: set attn_drop_rate=0.')
