"""The result of loading weights, for the log and for the caller, and advice if they do not fit."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import Size, Tensor

from swin_backbone.checkpoint.convert import version_of
from swin_backbone.checkpoint.layouts import NATIVE_BLOCK, fill, parse
from swin_backbone.checkpoint.network_kind import IMAGE, MIXER, PATCH, VIDEO, network_of, variants_of
from swin_backbone.checkpoint.output_norms import output_norms
from swin_backbone.variants import Variant

MIXING = 'spatial_mlp.weight'
WHOLE_BLOCK = frozenset({'norm1.weight', 'attn.qkv.weight', 'attn.proj.weight', 'mlp.fc1.weight', 'mlp.fc2.weight'})
MAX_NAMES = 12
MAX_NOTES = 4


@dataclass(frozen=True)
class LoadReport:
    """The result of :func:`swin_backbone.load_pretrained`.

    Attributes:
        source: the file or state dict.
        dialect: name of the layout that was recognised.
        version: version of the weights, 1 or 2.
        loaded: parameters that were loaded from the file.
        total: number of parameters of the backbone.
        adapted: loaded parameters that were resized, with a note on how.
        new: parameters that are allowed to be absent from the file; they keep their initial values.
        dropped: backbone weights in the file that this backbone does not need.
        beside: number of tensors in the file for other parts, such as a detector's heads, or other copies.
        ignored: prefixes of other backbones in the file, such as copies that are not averaged.
        missing: required parameters that are not in the file (only with ``strict=False``).
        leftover: unexpected weights in the file (only with ``strict=False``).
        misfits: parameters whose shapes differ, with both shapes (only with ``strict=False``).
        strange_norms: weights that look like norms of stages under unknown names (only with ``strict=False``).
        warnings: remarks for the user that do not prevent loading.
        network: the network of the weights, one of :mod:`.network_kind`.
    """

    source: str
    dialect: str
    version: int
    loaded: tuple[str, ...]
    total: int
    adapted: dict[str, str] = field(default_factory=dict)
    new: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    beside: int = 0
    ignored: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    leftover: tuple[str, ...] = ()
    misfits: dict[str, str] = field(default_factory=dict)
    strange_norms: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    network: str = IMAGE

    @property
    def complete(self) -> bool:
        """Whether the file contains every parameter of the backbone and no others."""
        return not (self.missing or self.leftover or self.misfits or self.strange_norms)

    def __str__(self) -> str:
        parts = [
            f'loaded {len(self.loaded)} of {self.total} parameters from {self.source} ({self.dialect} layout, '
            f'{network_name(self.network, self.version)})',
            f'adapted: {notes(self.adapted)}' if self.adapted else '',
            f'new: {brief(self.new)}' if self.new else '',
            f'dropped: {brief(self.dropped)}' if self.dropped else '',
            f'ignored: {self.beside} tensors outside the backbone' if self.beside else '',
            f'other backbones ignored: {", ".join(map(repr, self.ignored))}' if self.ignored else '',
        ]
        return '; '.join([*filter(None, parts), *self.problems()])

    def problems(self) -> list[str]:
        """Return a description of each kind of problem."""
        out = []
        if self.missing:
            out.append(f'missing {len(self.missing)}: {collapse(self.missing)}')
        if self.misfits:
            first = {note: name for name, note in reversed(self.misfits.items())}  # one name for each note
            listed = shorten([f'{name} ({note})' for note, name in reversed(first.items())], MAX_NOTES)
            out.append(f'wrong shapes {len(self.misfits)}: {listed}')
        if self.leftover:
            out.append(f'unexpected {len(self.leftover)}: {collapse(self.leftover)}')
        if self.strange_norms:
            out.append(
                f'it has norms of its stages under unknown names, {shorten(list(self.strange_norms), 3)}: '
                'rename them to norm0.weight, norm0.bias and so on by their stage'
            )
        return out


def network_name(network: str, version: int) -> str:
    """Return the name of a network, with the version for Swin Transformers for images."""
    return f'Swin V{version}' if network == IMAGE else network


def notes(noted: dict[str, str]) -> str:
    """Format names with their notes, grouped by note."""
    groups = {note: [name for name, other in noted.items() if other == note] for note in noted.values()}
    return shorten([f'{collapse(names)} ({note})' for note, names in groups.items()], MAX_NOTES)


def brief(names: Iterable[str]) -> str:
    """Summarise names by their first component (buffers by their last one), with counts."""
    counts: Counter[str] = Counter()
    for name in names:
        parts = name.split('.')
        start = '.'.join(parts[:2]) if parts[0] == 'layers' else parts[0]
        counts[parts[-1] if parts[-1].startswith(('relative_', 'attn_mask')) else start] += 1
    return ', '.join(kind if count <= 2 else f'{kind} x{count}' for kind, count in counts.items())


def collapse(names: Iterable[str]) -> str:
    """Format names, with those of several blocks combined, as in ``layers.2.blocks.6-17.*``."""
    blocks: dict[tuple[int, int], list[str]] = {}
    others: list[str] = []
    for name in names:
        parsed = parse(NATIVE_BLOCK, name)
        if parsed is None:
            others.append(name)
        else:
            blocks.setdefault(parsed[:2], []).append(parsed[2])
    alike: dict[str, list[tuple[int, int]]] = {}
    for place, rests in blocks.items():
        for rest in ['*'] if WHOLE_BLOCK.issubset(rests) else rests:
            alike.setdefault(rest, []).append(place)
    return shorten([*(spread(places, rest) for rest, places in alike.items()), *others], MAX_NAMES)


def spread(places: list[tuple[int, int]], rest: str) -> str:
    """Format the names that end in ``rest`` in the blocks at ``places`` (stage, block)."""
    if len(places) <= 2:
        return ', '.join(fill(NATIVE_BLOCK, *place) + rest for place in places)
    stages, blocks = {stage for stage, _ in places}, [block for _, block in places]
    if len(stages) > 1:
        return f'layers.*.blocks.*.{rest} (x{len(places)})'
    if max(blocks) - min(blocks) == len(blocks) - 1:
        return f'layers.{stages.pop()}.blocks.{min(blocks)}-{max(blocks)}.{rest}'
    return f'layers.{stages.pop()}.blocks.*.{rest} (x{len(places)})'


def shorten(items: list[str], most: int) -> str:
    """Join the first ``most`` items, and count the others."""
    more = len(items) - most
    return ', '.join(items[:most]) + (f' and {more} more' if more > 0 else '')


@dataclass(frozen=True)
class Anatomy:
    """The sizes and options of a network, determined from the weights of a file or a model.

    Stages after the last output may be absent, and a number is 0 if no weight determines it. ``mixed`` is the number of
    tokens in a window for each stage of a Swin-Mixer.
    """

    version: int
    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    patch_size: int
    mlp_ratio: float
    patch_norm: bool
    qkv_bias: bool
    relative: bool
    values_only: bool
    main_norm: bool
    norms: frozenset[int]
    network: str
    mixed: tuple[int, ...]

    def has_sizes(self, other: 'Anatomy | Variant') -> bool:
        """Whether the stages in both have the same channels, depths and heads."""
        stages = min(len(self.depths), len(other.depths))
        heads = zip(self.num_heads[:stages], other.num_heads[:stages], strict=True)
        return (self.embed_dim, self.depths[:stages]) == (other.embed_dim, other.depths[:stages]) and all(
            a == b or 0 in (a, b) for a, b in heads
        )

    @property
    def variant(self) -> str | None:
        """Name of the variant of the network with these sizes."""
        known = variants_of(self.network, self.version)
        return next((name for name, variant in known.items() if self.has_sizes(variant)), None)

    def __str__(self) -> str:
        depths, heads = (', '.join(str(n or '?') for n in numbers) for numbers in (self.depths, self.num_heads))
        name = f'{network_name(self.network, self.version)} {self.variant or "of custom sizes"}'
        return f'{name} (embed_dim {self.embed_dim}, depths {depths}, heads {heads})'


def shape_of(state: Mapping[str, Tensor], name: str, default: Size) -> Size:
    """Return the shape of a weight; ``default`` if it is absent, empty, or has another number of dimensions."""
    shape = state[name].shape if name in state else default
    return shape if len(shape) == len(default) and 0 not in shape else default


def anatomy_of(state: Mapping[str, Tensor]) -> Anatomy:
    """Determine the sizes and options of a network from native names and shapes."""
    depths: Counter[int] = Counter()
    heads: Counter[int] = Counter()
    mixed: Counter[int] = Counter()
    for name, tensor in state.items():
        parsed = parse(NATIVE_BLOCK, name)
        if parsed is not None:
            stage, block, rest = parsed
            depths[stage] = max(depths[stage], block + 1)
            if rest == 'attn.logit_scale' and tensor.dim():
                heads[stage] = tensor.shape[0]
            elif rest == 'attn.relative_position_bias_table' and tensor.dim() == 2:
                heads[stage] = tensor.shape[1]
            elif rest == MIXING and tensor.dim() == 3 and tensor.shape[1]:
                mixed[stage], heads[stage] = tensor.shape[1], tensor.shape[0] // tensor.shape[1]
    network = network_of(state)
    patch = shape_of(state, PATCH, Size([0] * (5 if network == VIDEO else 4)))
    projection = shape_of(state, 'layers.0.blocks.0.attn.qkv.weight', Size([0, 1]))
    # Any tensor may be absent from a file, so each size is taken from the first weight that shows it, or is 0.
    norm = shape_of(state, 'layers.0.blocks.0.norm1.weight', Size([0]))
    name = next((name for name in state if name.endswith('mlp.fc1.weight')), '')
    hidden = shape_of(state, name, Size([0, 1]))
    stages = range(max(depths, default=-1) + 1)
    return Anatomy(
        version=version_of(state),
        embed_dim=patch[0] or norm[0],
        depths=tuple(depths[stage] for stage in stages),
        num_heads=tuple(heads[stage] for stage in stages),
        patch_size=patch[-1],
        mlp_ratio=hidden[0] / hidden[1],
        patch_norm=any(name.startswith('patch_embed.norm.') for name in state),
        qkv_bias=any(name.endswith(('attn.qkv.bias', 'attn.v_bias')) for name in state),
        relative=any(name.endswith(('bias_table', 'cpb_mlp.2.weight')) for name in state),
        values_only=projection[:1] == projection[1:],
        main_norm=any(name.endswith('.norm3.weight') for name in state),
        norms=frozenset(output_norms(state)),
        network=network,
        mixed=tuple(mixed[stage] for stage in stages) if network == MIXER else (),
    )


def sizes_of(file: Anatomy, toolkit: bool) -> str:
    """Return the arguments for a backbone with the sizes of ``file``, and its norms on the main branch if any."""
    if toolkit:
        return f'embed_dims={file.embed_dim}, depths={file.depths}, num_heads={file.num_heads}'
    known = variants_of(file.network, 2 if file.main_norm else file.version)
    alike = [name for name, variant in known.items() if bool(variant.main_norm_every) == file.main_norm]
    for name in alike:
        if file.has_sizes(known[name]):
            return f'variant={name!r}'
    sizes = f'embed_dim={file.embed_dim}, depths={file.depths}, num_heads={file.num_heads}'
    return f'variant={alike[0]!r}, {sizes}' if file.main_norm else f'variant=None, {sizes}'


def advice(file: Anatomy, model: Anatomy, toolkit: bool = False) -> list[str]:
    """Return the arguments to change in the call that built ``model`` so that ``file`` fits, likeliest cause first.

    Args:
        file: sizes and options of the weights.
        model: sizes and options of the backbone.
        toolkit: whether the backbone is built with the toolkits' arguments.
    """
    out = []
    if file.version != model.version:
        other_class = 'the class swin_backbone.SwinTransformer with ' if toolkit else ''
        out.append(f'{other_class}version={file.version}')
        toolkit = False
    if not file.has_sizes(model) or file.main_norm != model.main_norm:
        out.append(sizes_of(file, toolkit))
    for name in ('patch_size', 'patch_norm', 'qkv_bias', 'mlp_ratio'):
        unknown = name in ('patch_size', 'mlp_ratio') and not getattr(file, name)
        if getattr(file, name) != getattr(model, name) and not unknown:
            out.append(f'{name}={getattr(file, name)}')
    if file.mixed and file.mixed != model.mixed:
        sides = [math.isqrt(tokens) for tokens in file.mixed]
        square = all(side**2 == tokens for side, tokens in zip(sides, file.mixed, strict=True))
        out.append(f'window_size={sides[0] if len(set(sides)) == 1 else sides}' if square else 'its window_size')
    if file.values_only and not model.values_only:
        out.append("position_encoding='relative-only'")
    elif model.relative and not file.relative:
        out.append("position_encoding='none' or 'absolute'")
    given = file.norms or frozenset(range(len(file.depths)))
    if not model.norms <= given:
        out.append(f'out_indices={tuple(sorted(given))}')
    return out
