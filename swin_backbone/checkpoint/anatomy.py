"""What network a state dict belongs to, told from its names and shapes; and what keeps two of them apart."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Size

from swin_backbone.checkpoint.names import NATIVE_BLOCK, parse
from swin_backbone.checkpoint.regroup import output_norms, version_of
from swin_backbone.variants import VARIANTS


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
