"""What loading did, for the log and for the caller."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import Size

from swin_backbone.checkpoint.convert import output_norms, version_of
from swin_backbone.checkpoint.layouts import NATIVE_BLOCK, parse
from swin_backbone.variants import VARIANTS

BLOCK = re.compile(r'^layers\.(\d+)\.blocks\.(\d+)\.')
WHOLE_BLOCK = frozenset({'norm1.weight', 'attn.qkv.weight', 'attn.proj.weight', 'mlp.fc1.weight', 'mlp.fc2.weight'})
MAX_NAMES = 12
MAX_NOTES = 4


@dataclass(frozen=True)
class LoadReport:
    """What :func:`swin_backbone.load_pretrained` did.

    Attributes:
        source: what was read.
        dialect: the layout that was recognised.
        version: 1 or 2, of the weights.
        loaded: the parameters that now hold the file's values.
        total: how many parameters the backbone has.
        adapted: those of them that were resized, with how.
        new: parameters that the file is allowed to lack; they keep their initial values.
        dropped: what the file has for a backbone and this one does not need.
        beside: how many tensors the file has for other parts, such as a detector's heads, or as other copies.
        missing: parameters that the file should have had and has not (only without ``strict``).
        leftover: what the file has and nothing here takes (only without ``strict``).
        misfits: parameters whose shapes differ, with how (only without ``strict``).
        warnings: what the user should know although all is loaded.
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
    missing: tuple[str, ...] = ()
    leftover: tuple[str, ...] = ()
    misfits: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether the file covers the backbone and has nothing to spare."""
        return not (self.missing or self.leftover or self.misfits)

    def __str__(self) -> str:
        parts = [f'loaded {len(self.loaded)} of {self.total} parameters from {self.source} ({self.dialect} layout, ']
        parts[0] += f'Swin V{self.version})'
        if self.adapted:
            parts.append(f'adapted: {notes(self.adapted)}')
        for title, names in (('new', self.new), ('dropped', self.dropped)):
            if names:
                parts.append(f'{title}: {brief(names)}')
        if self.beside:
            parts.append(f'not looked at: {self.beside} tensors beside the backbone')
        return '; '.join([*parts, *self.problems()])

    def problems(self) -> list[str]:
        """What is wrong, one clause a kind."""
        out = []
        if self.missing:
            out.append(f'missing {len(self.missing)}: {collapse(self.missing)}')
        if self.misfits:
            out.append(f'of other shapes {len(self.misfits)}: {examples(self.misfits)}')
        if self.leftover:
            out.append(f'left over {len(self.leftover)}: {collapse(self.leftover)}')
        return out


def notes(noted: dict[str, str]) -> str:
    """Names with a note each, names that share one together."""
    groups: dict[str, list[str]] = {}
    for name, note in noted.items():
        groups.setdefault(note, []).append(name)
    return shorten([f'{collapse(names)} ({note})' for note, names in groups.items()], MAX_NOTES)


def examples(noted: dict[str, str]) -> str:
    """One name for each note, for notes that nearly all names have."""
    firsts = {note: name for name, note in reversed(noted.items())}
    return shorten([f'{name} ({note})' for note, name in reversed(firsts.items())], MAX_NOTES)


def brief(names: Iterable[str]) -> str:
    """Names by their last or first part, with how often: for what is not worth a list."""
    counts: dict[str, int] = {}
    for name in names:
        parts = name.split('.')
        start = '.'.join(parts[:2]) if parts[0] == 'layers' else parts[0]
        kind = parts[-1] if parts[-1].startswith(('relative_', 'attn_mask')) else start
        counts[kind] = counts.get(kind, 0) + 1
    return ', '.join(kind if count <= 2 else f'{kind} x{count}' for kind, count in counts.items())


def collapse(names: Iterable[str]) -> str:
    """Names with those of many blocks drawn together, as in ``layers.2.blocks.6-17.*``."""
    blocks: dict[tuple[int, int], list[str]] = {}
    listed: list[str] = []
    for name in names:
        match = BLOCK.match(name)
        if match is None:
            listed.append(name)
        else:
            blocks.setdefault((int(match[1]), int(match[2])), []).append(name[match.end() :])
    alike: dict[str, list[tuple[int, int]]] = {}
    for place, rests in blocks.items():
        whole = WHOLE_BLOCK.issubset(rests)
        for rest in ['*'] if whole else rests:
            alike.setdefault(rest, []).append(place)
    return shorten([*(spread(places, rest) for rest, places in alike.items()), *listed], MAX_NAMES)


def spread(places: list[tuple[int, int]], rest: str) -> str:
    """The names that end in ``rest`` in the blocks at ``places`` (stage, block)."""
    if len(places) <= 2:
        return ', '.join(f'layers.{stage}.blocks.{block}.{rest}' for stage, block in places)
    stages, blocks = {stage for stage, _ in places}, [block for _, block in places]
    if len(stages) > 1:
        return f'layers.*.blocks.*.{rest} (x{len(places)})'
    one_run = max(blocks) - min(blocks) == len(blocks) - 1
    numbers = f'{min(blocks)}-{max(blocks)}' if one_run else f'*.{rest} (x{len(places)})'
    return f'layers.{stages.pop()}.blocks.{numbers}' + (f'.{rest}' if one_run else '')


def shorten(items: list[str], most: int) -> str:
    """Items joined, the far end of a long list only counted."""
    more = len(items) - most
    return ', '.join(items[:most]) + (f' and {more} more' if more > 0 else '')


@dataclass(frozen=True)
class Anatomy:
    """A network as its weights show it, the same for a file and for a model.

    Attributes:
        version: 1 or 2.
        embed_dim: channels of the first stage.
        depths: blocks per stage.
        num_heads: heads per stage; 0 where no weight shows them.
        patch_size: side of a patch.
        mlp_ratio: hidden channels of the first MLP over its input channels.
        patch_norm: whether a norm follows the patch embedding.
        qkv_bias: whether values have a bias.
        relative: whether there is a relative position bias.
        values_only: whether attention does without queries and keys.
        main_norm: whether some blocks end in a norm on the main branch.
        norms: the stages with an output norm.
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

    @property
    def variant(self) -> str | None:
        """The name of these sizes in :data:`swin_backbone.VARIANTS`; later stages need not be built."""
        for name, known in VARIANTS.items():
            stages = len(self.depths)
            heads = all(ours in (0, theirs) for ours, theirs in zip(self.num_heads, known.num_heads, strict=False))
            if (self.embed_dim, self.depths) == (known.embed_dim, known.depths[:stages]) and heads:
                return name
        return None

    def __str__(self) -> str:
        name = f'Swin V{self.version} {self.variant or "of its own sizes"}'
        return f'{name} (embed_dim {self.embed_dim}, depths {listed(self.depths)}, heads {listed(self.num_heads)})'


def listed(numbers: tuple[int, ...]) -> str:
    """Numbers for a message, unknown ones as a question mark."""
    return ', '.join(str(number) if number else '?' for number in numbers)


def anatomy_of(shapes: Mapping[str, Size]) -> Anatomy:
    """Read the anatomy off native names and shapes."""
    depths: dict[int, int] = {}
    heads: dict[int, int] = {}
    for name, shape in shapes.items():
        parsed = parse(NATIVE_BLOCK, name)
        if parsed is None:
            continue
        stage, block, rest = parsed
        depths[stage] = max(depths.get(stage, 0), block + 1)
        if rest == 'attn.logit_scale':
            heads[stage] = shape[0]
        elif rest == 'attn.relative_position_bias_table' and len(shape) == 2:
            heads[stage] = shape[1]
    stages = range(max(depths, default=-1) + 1)
    patch = shapes.get('patch_embed.proj.weight', Size([0, 0, 0, 0]))
    projection = shapes.get('layers.0.blocks.0.attn.qkv.weight', Size([0, 1]))
    first = shapes.get('layers.0.blocks.0.mlp.fc1.weight', Size([0, 1]))
    return Anatomy(
        version=version_of(shapes),
        embed_dim=patch[0],
        depths=tuple(depths.get(stage, 0) for stage in stages),
        num_heads=tuple(heads.get(stage, 0) for stage in stages),
        patch_size=patch[-1],
        mlp_ratio=first[0] / first[1],
        patch_norm='patch_embed.norm.weight' in shapes,
        qkv_bias=any(name.endswith(('attn.qkv.bias', 'attn.v_bias')) for name in shapes),
        relative=any(name.endswith(('bias_table', 'cpb_mlp.2.weight')) for name in shapes),
        values_only=projection[:1] == projection[1:],
        main_norm=any(name.endswith('.norm3.weight') for name in shapes),
        norms=frozenset(output_norms(shapes)),
    )


def advice(file: Anatomy, model: Anatomy) -> list[str]:
    """What to change in the call that built ``model`` so that ``file`` fits, likeliest cause first."""
    out = []
    if file.version != model.version:
        out.append(f'version={file.version}')
    sizes = f'variant=None, embed_dim={file.embed_dim}, depths={file.depths}, num_heads={file.num_heads}'
    if different_sizes(file, model):
        out.append(sizes if file.variant is None else f'variant={file.variant!r}')
    elif file.main_norm != model.main_norm:
        out.append("a variant with norms on the main branch ('huge', 'giant')" if file.main_norm else sizes)
    for name in ('patch_size', 'patch_norm', 'qkv_bias', 'mlp_ratio'):
        if getattr(file, name) != getattr(model, name):
            out.append(f'{name}={getattr(file, name)}')
    if file.values_only and not model.values_only:
        out.append("position_encoding='relative-only'")
    elif model.relative and not file.relative:
        out.append("position_encoding='none' or 'absolute'")
    stages = range(len(file.depths))
    given = file.norms or frozenset(stages)
    if not model.norms <= given:
        out.append(f'out_indices={tuple(sorted(given))}')
    return out


def different_sizes(file: Anatomy, model: Anatomy) -> bool:
    """Whether the stages that both have differ in width, depth or heads."""
    stages = min(len(file.depths), len(model.depths))
    heads = any(a != b and a and b for a, b in zip(file.num_heads[:stages], model.num_heads[:stages], strict=True))
    return heads or (file.embed_dim, file.depths[:stages]) != (model.embed_dim, model.depths[:stages])
