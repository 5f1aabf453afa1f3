"""Parameter names of other implementations: one :class:`Layout` for each.

The keys of a *native* state dict are those of :class:`swin_backbone.SwinTransformer`, which are the original
repository's, without any prefix.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache

Pairs = tuple[tuple[str, str], ...]

NATIVE_BLOCK = 'layers.{stage}.blocks.{block}.'
NATIVE_MERGE = 'layers.{stage}.downsample.'
NATIVE_NORM = 'norm{stage}.'

# Placeholders in templates: the number is factor * index + offset, with the index of the stage or block.
FORMS = {'stage': (1, 0), 'block': (1, 0), 'next': (1, 1), 'double': (2, 0), 'odd': (2, 1), 'even': (2, 2)}


@dataclass(frozen=True)
class Layout:
    """The parameter names of one implementation.

    Attributes:
        name: name in reports.
        first: a weight of every block that distinguishes this layout from others with the same ``block``.
        block: template of the prefix of names in a block.
        merge: template of the prefix of names in a merging layer.
        norm: template of the prefix of an output norm.
        alternative_norm: another template of an output norm, for reading only; empty for none.
        outer: pairs (native, other) of prefixes that differ outside blocks; the first match is used in both directions.
        inner: the same for the part of a name after ``block``.
        outside: pairs (native, other) of prefixes that a file has outside the backbone rather than in it.
        roots: prefixes of the backbone in the implementation's own files, for V1 and V2.
        container: key of the state dict in the implementation's own files; empty for none.
        late_merge: the versions in which a merging layer belongs to the stage after it.
        unfold: whether merging concatenates channels in the order of ``nn.Unfold``.
        split: whether queries, keys and values have separate projections.
        fused_bias: whether V2 has one joint bias for queries, keys and values.
        unsupported: features that the implementation does not have, from the constants below.
    """

    name: str
    first: str = 'attn.qkv.weight'
    block: str = NATIVE_BLOCK
    merge: str = NATIVE_MERGE
    norm: str = NATIVE_NORM
    alternative_norm: str = ''
    outer: Pairs = ()
    inner: Pairs = ()
    outside: Pairs = ()
    roots: tuple[str, str] = ('', '')
    container: str = ''
    late_merge: tuple[int, ...] = ()
    unfold: bool = False
    split: bool = False
    fused_bias: bool = False
    unsupported: tuple[str, ...] = ()


def fill(template: str, stage: int, block: int = 0) -> str:
    """Fill the indices of a stage and a block into ``template``."""
    numbers = {name: factor * stage + offset for name, (factor, offset) in FORMS.items()}
    return template.format(**{**numbers, 'block': block})


@cache
def pattern(template: str) -> re.Pattern[str]:
    """Return the regular expression that matches ``template`` at the start of a key."""
    return re.compile(re.sub(r'\\{(\w+)\\}', r'(?P<\1>\\d+)', re.escape(template)))


def parse(template: str, key: str) -> tuple[int, int, str] | None:
    """Return stage, block (0 if there is none) and rest of ``key``; None if it does not start with ``template``."""
    match = pattern(template).match(key)
    if match is None:
        return None
    numbers = {'stage': 0, 'block': 0}
    for name, text in match.groupdict().items():
        factor, offset = FORMS[name]
        number, remainder = divmod(int(text) - offset, factor)
        if remainder or number < 0:
            return None
        numbers['block' if name == 'block' else 'stage'] = number
    return numbers['stage'], numbers['block'], key[match.end() :]


def swap_start(name: str, pairs: Iterable[tuple[str, str]]) -> str:
    """Replace the start of ``name`` by the first of ``pairs`` (from, to) that matches."""
    return next((end + name[len(start) :] for start, end in pairs if name.startswith(start)), name)


def flip(pairs: Pairs) -> Pairs:
    """Swap both sides of each pair."""
    return tuple((second, first) for first, second in pairs)


def rename(key: str, layout: Layout, back: bool = False) -> str:
    """Translate a name from ``layout`` to native, or ``back``; names that match no template are unchanged."""
    turn = tuple if back else flip
    templates: Pairs = ((NATIVE_BLOCK, layout.block), (NATIVE_MERGE, layout.merge), (NATIVE_NORM, layout.norm))
    if layout.alternative_norm and not back:
        templates = (*templates, (NATIVE_NORM, layout.alternative_norm))
    for source, target in turn(templates):
        parsed = parse(source, key)
        if parsed is not None:
            stage, block, rest = parsed
            return fill(target, stage, block) + (swap_start(rest, turn(layout.inner)) if '{block}' in source else rest)
    return swap_start(key, turn(layout.outer))


ABSOLUTE, ABSOLUTE_V2 = 'an absolute position embedding', 'V2 with an absolute position embedding'
NO_PATCH_NORM, NO_QKV_BIAS = 'no norm after the patch embedding', 'no bias of queries, keys and values'
NO_RELATIVE, MAIN_NORM = 'no relative position bias', 'norms on the main branch'
SWIN_V2, STAGE_WINDOWS = 'the weights of Swin V2', 'windows of several sizes'

# With the names of V2 parts in the released files of SimMIM and Feature Distillation.
ORIGINAL = Layout(
    'original',
    inner=(
        ('attn.cpb_mlp.', 'attn.cpb_mlp.'),
        ('attn.cpb_mlp.', 'attn.rpe_mlp.'),
        ('norm3.', 'norm3.'),
        ('norm3.', 'enorm.'),
    ),
    container='model',
)
MIXER = replace(ORIGINAL, first='spatial_mlp.weight')
DETECTRON2 = replace(ORIGINAL, roots=('backbone.', 'backbone.'))
TIMM = Layout(
    'timm',
    outer=(('head.', 'head.fc.'),),
    late_merge=(1, 2),
    unsupported=(ABSOLUTE, NO_PATCH_NORM, NO_RELATIVE, MAIN_NORM),
)
TIMM_FEATURES = Layout(
    'timm (features only)',
    block='layers_{stage}.blocks.{block}.',
    merge='layers_{stage}.downsample.',
    late_merge=(1, 2),
    unsupported=TIMM.unsupported,
)
MMDET = Layout(
    'mmdet',
    first='attn.w_msa.qkv.weight',
    block='stages.{stage}.blocks.{block}.',
    merge='stages.{stage}.downsample.',
    outer=(('patch_embed.proj.', 'patch_embed.projection.'),),
    inner=(('attn.', 'attn.w_msa.'), ('mlp.fc1.', 'ffn.layers.0.0.'), ('mlp.fc2.', 'ffn.layers.1.')),
    outside=(('head.', 'head.fc.'),),
    roots=('backbone.', 'backbone.'),
    container='state_dict',
    late_merge=(2,),
    unfold=True,
    unsupported=(STAGE_WINDOWS,),
)
TORCHVISION = Layout(
    'torchvision',
    block='features.{odd}.{block}.',
    merge='features.{even}.',
    outer=(('patch_embed.proj.', 'features.0.0.'), ('patch_embed.norm.', 'features.0.2.')),
    inner=(
        ('mlp.fc1.', 'mlp.0.'),
        ('mlp.fc2.', 'mlp.3.'),
        ('attn.logit_scale', 'attn.logit_scale'),
        ('attn.logit_scale', 'attn.v2_logit_scale'),  # in early files
    ),
    fused_bias=True,
    unsupported=(ABSOLUTE, NO_PATCH_NORM, NO_QKV_BIAS, NO_RELATIVE, MAIN_NORM, STAGE_WINDOWS),
)
TORCHVISION_VIDEO = Layout(
    'torchvision (video)',
    block='features.{double}.{block}.',
    merge='features.{odd}.',
    inner=TORCHVISION.inner[:2],
)
TRANSFORMERS = Layout(
    'transformers',
    first='attention.self.query.weight',
    block='encoder.layers.{stage}.blocks.{block}.',
    merge='encoder.layers.{stage}.downsample.',
    norm='hidden_states_norms.stage{next}.',
    alternative_norm='hidden_states_norms.{stage}.',  # MaskFormer's backbone
    outer=(
        ('patch_embed.proj.', 'embeddings.patch_embeddings.projection.'),
        ('patch_embed.norm.', 'embeddings.norm.'),
        ('absolute_pos_embed', 'embeddings.position_embeddings'),
        ('mask_token', 'embeddings.mask_token'),
        ('norm.', 'layernorm.'),
        ('norm.', 'swin.layernorm.'),  # in files of its backbone class, whose other names have no prefix
    ),
    inner=(
        ('norm1.', 'layernorm_before.'),
        ('norm2.', 'layernorm_after.'),
        ('attn.proj.', 'attention.output.dense.'),
        ('attn.cpb_mlp.', 'attention.self.continuous_position_bias_mlp.'),
        ('attn.', 'attention.self.'),
        ('mlp.fc1.', 'intermediate.dense.'),
        ('mlp.fc2.', 'output.dense.'),
    ),
    outside=(('head.', 'classifier.'), ('hidden_states_norms.', 'hidden_states_norms.')),
    roots=('swin.', 'swinv2.'),
    split=True,
    unsupported=(ABSOLUTE_V2, NO_PATCH_NORM, NO_RELATIVE, MAIN_NORM, STAGE_WINDOWS),
)
# Transformers 5 renamed the modules of V1, but still saves files with the names above.
TRANSFORMERS_MODULE = replace(
    TRANSFORMERS,
    name='transformers (in memory)',
    first='attention.q_proj.weight',
    inner=(
        *TRANSFORMERS.inner[:2],
        ('attn.proj.', 'attention.o_proj.'),
        ('attn.query.', 'attention.q_proj.'),
        ('attn.key.', 'attention.k_proj.'),
        ('attn.value.', 'attention.v_proj.'),
        ('attn.', 'attention.relative_position_bias.'),
    ),
    unsupported=(SWIN_V2, *TRANSFORMERS.unsupported),
)
MASKFORMER = replace(
    TRANSFORMERS,
    norm=TRANSFORMERS.alternative_norm,
    roots=('model.', 'model.'),
    unsupported=(SWIN_V2, *TRANSFORMERS.unsupported),
)

# 'timm' differs from 'original' only in the position of patch merging, which is checked after renaming.
READABLE = (
    ORIGINAL,
    MIXER,
    TIMM_FEATURES,
    MMDET,
    TORCHVISION,
    TORCHVISION_VIDEO,
    TRANSFORMERS,
    TRANSFORMERS_MODULE,
)
# The key, after any prefix, by which each layout is recognised.
ANCHORS = {fill(layout.block, 0) + layout.first: layout for layout in READABLE}
# Layouts that ``swin-backbone convert`` writes, by their names on the command line.
WRITABLE = {
    'original': ORIGINAL,
    'detectron2': DETECTRON2,
    'mmdet': MMDET,
    'timm': TIMM,
    'timm-features': TIMM_FEATURES,
    'torchvision': TORCHVISION,
    'transformers': TRANSFORMERS,
    'transformers-memory': TRANSFORMERS_MODULE,
    'maskformer': MASKFORMER,
}
