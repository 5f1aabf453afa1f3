"""State dicts with the exact keys of other implementations, written out independently of the loader's tables.

Every function yields names and shapes of a whole classifier (or detector) of given sizes as saved by that
implementation, with its buffers, head and final norm.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

Shapes = Iterator[tuple[str, tuple[int, ...]]]

CLASSES = 10


class Sizes:
    """A network: channels of the first stage, depths, heads, window, and the side of its first map in tokens."""

    def __init__(
        self, dim: int, depths: tuple[int, ...], heads: tuple[int, ...], window: int, tokens: int = 56
    ) -> None:
        self.dim, self.depths, self.heads, self.window, self.tokens = dim, depths, heads, window, tokens

    def blocks(self) -> Iterator[tuple[int, int, int, int]]:
        """Yield stage, block, channels and heads of every block."""
        for stage, depth in enumerate(self.depths):
            for block in range(depth):
                yield stage, block, self.dim * 2**stage, self.heads[stage]

    def merges(self) -> Iterator[tuple[int, int]]:
        """Yield stage and input channels of every merging layer."""
        for stage in range(len(self.depths) - 1):
            yield stage, self.dim * 2**stage

    @property
    def last(self) -> int:
        """Channels of the last stage."""
        return self.dim * 2 ** (len(self.depths) - 1)

    @property
    def table(self) -> int:
        """Rows of a bias table."""
        return (2 * self.window - 1) ** 2


def pair(name: str, size: int) -> Shapes:
    """A norm."""
    yield f'{name}.weight', (size,)
    yield f'{name}.bias', (size,)


def linear(name: str, inputs: int, outputs: int, bias: bool = True) -> Shapes:
    """A linear layer."""
    yield f'{name}.weight', (outputs, inputs)
    if bias:
        yield f'{name}.bias', (outputs,)


def patch(conv: str, norm: str, dim: int) -> Shapes:
    """A patch embedding."""
    yield f'{conv}.weight', (dim, 3, 4, 4)
    yield f'{conv}.bias', (dim,)
    yield from pair(norm, dim)


def mask(sizes: Sizes, stage: int, block: int) -> tuple[int, ...] | None:
    """Return the shape of a block's attention mask in the original code; None for blocks without a shift."""
    side = sizes.tokens >> stage
    windows = (side // sizes.window) ** 2
    return (windows, sizes.window**2, sizes.window**2) if block % 2 and side > sizes.window else None


def attention_v2(stem: str, dim: int, heads: int) -> Shapes:
    """V2's attention in the original code, timm and mmpretrain."""
    yield f'{stem}.logit_scale', (heads, 1, 1)
    yield f'{stem}.q_bias', (dim,)
    yield f'{stem}.v_bias', (dim,)
    yield from linear(f'{stem}.cpb_mlp.0', 2, 512)
    yield f'{stem}.cpb_mlp.2.weight', (heads, 512)
    yield f'{stem}.qkv.weight', (3 * dim, dim)
    yield from linear(f'{stem}.proj', dim, dim)


def attention_v1(stem: str, dim: int, heads: int, table: int) -> Shapes:
    """V1's attention in the original code, timm, torchvision and mmdet."""
    yield f'{stem}.relative_position_bias_table', (table, heads)
    yield from linear(f'{stem}.qkv', dim, 3 * dim)
    yield from linear(f'{stem}.proj', dim, dim)


def original(sizes: Sizes, version: int) -> Shapes:
    """microsoft/Swin-Transformer."""
    yield from patch('patch_embed.proj', 'patch_embed.norm', sizes.dim)
    tokens = sizes.window**2
    for stage, block, dim, heads in sizes.blocks():
        stem = f'layers.{stage}.blocks.{block}'
        yield from pair(f'{stem}.norm1', dim)
        if version == 1:
            yield from attention_v1(f'{stem}.attn', dim, heads, sizes.table)
        else:
            yield from attention_v2(f'{stem}.attn', dim, heads)
            yield f'{stem}.attn.relative_coords_table', (1, 2 * sizes.window - 1, 2 * sizes.window - 1, 2)
        yield f'{stem}.attn.relative_position_index', (tokens, tokens)
        yield from pair(f'{stem}.norm2', dim)
        yield from linear(f'{stem}.mlp.fc1', dim, 4 * dim)
        yield from linear(f'{stem}.mlp.fc2', 4 * dim, dim)
        shape = mask(sizes, stage, block)
        if shape is not None:
            yield f'{stem}.attn_mask', shape
    for stage, dim in sizes.merges():
        yield f'layers.{stage}.downsample.reduction.weight', (2 * dim, 4 * dim)
        yield from pair(f'layers.{stage}.downsample.norm', 4 * dim if version == 1 else 2 * dim)
    yield from pair('norm', sizes.last)
    yield from linear('head', sizes.last, CLASSES)


def timm(sizes: Sizes, version: int) -> Shapes:
    """Since timm 0.9: no buffers, merging at the start of stages, another head."""
    for name, shape in original(sizes, version):
        if name.endswith(('attn_mask', 'relative_position_index', 'relative_coords_table')):
            continue
        parts = name.split('.')
        if 'downsample' in parts:
            parts[1] = str(int(parts[1]) + 1)
        yield '.'.join(parts).replace('head.', 'head.fc.'), shape


def timm_old(sizes: Sizes, version: int) -> Shapes:
    """Before timm 0.9: same as the original."""
    yield from original(sizes, version)


def timm_features(sizes: Sizes, version: int) -> Shapes:
    """``features_only=True``: stages flattened to ``layers_N``, no norm, no head."""
    for name, shape in timm(sizes, version):
        if not name.startswith(('norm.', 'head.')):
            yield name.replace('layers.', 'layers_', 1), shape


def mm(sizes: Sizes, version: int) -> Shapes:
    """mmpretrain, whose V1 is the same as mmdet's and mmseg's; V2 merges at the start of stages."""
    yield from patch('backbone.patch_embed.projection', 'backbone.patch_embed.norm', sizes.dim)
    tokens = sizes.window**2
    for stage, block, dim, heads in sizes.blocks():
        stem = f'backbone.stages.{stage}.blocks.{block}'
        yield from pair(f'{stem}.norm1', dim)
        if version == 1:
            yield from attention_v1(f'{stem}.attn.w_msa', dim, heads, sizes.table)
        else:
            yield from attention_v2(f'{stem}.attn.w_msa', dim, heads)
            yield f'{stem}.attn.w_msa.relative_coords_table', (1, 2 * sizes.window - 1, 2 * sizes.window - 1, 2)
        yield f'{stem}.attn.w_msa.relative_position_index', (tokens, tokens)
        yield from pair(f'{stem}.norm2', dim)
        yield from linear(f'{stem}.ffn.layers.0.0', dim, 4 * dim)
        yield from linear(f'{stem}.ffn.layers.1', 4 * dim, dim)
    for stage, dim in sizes.merges():
        stem = f'backbone.stages.{stage + (version == 2)}.downsample'
        yield f'{stem}.reduction.weight', (2 * dim, 4 * dim)
        yield from pair(f'{stem}.norm', 4 * dim if version == 1 else 2 * dim)
    yield from pair(f'backbone.norm{len(sizes.depths) - 1}', sizes.last)
    yield from linear('head.fc', sizes.last, CLASSES)


def torchvision(sizes: Sizes, version: int) -> Shapes:
    """torchvision: stages and merging layers in one sequence."""
    yield from patch('features.0.0', 'features.0.2', sizes.dim)
    for stage, block, dim, heads in sizes.blocks():
        stem = f'features.{2 * stage + 1}.{block}'
        yield from pair(f'{stem}.norm1', dim)
        yield f'{stem}.attn.relative_position_index', (sizes.window**4,)
        if version == 1:
            yield from attention_v1(f'{stem}.attn', dim, heads, sizes.table)
        else:
            yield f'{stem}.attn.logit_scale', (heads, 1, 1)
            yield f'{stem}.attn.relative_coords_table', (1, 2 * sizes.window - 1, 2 * sizes.window - 1, 2)
            yield from linear(f'{stem}.attn.qkv', dim, 3 * dim)
            yield from linear(f'{stem}.attn.proj', dim, dim)
            yield from linear(f'{stem}.attn.cpb_mlp.0', 2, 512)
            yield f'{stem}.attn.cpb_mlp.2.weight', (heads, 512)
        yield from pair(f'{stem}.norm2', dim)
        yield from linear(f'{stem}.mlp.0', dim, 4 * dim)
        yield from linear(f'{stem}.mlp.3', 4 * dim, dim)
    for stage, dim in sizes.merges():
        yield f'features.{2 * stage + 2}.reduction.weight', (2 * dim, 4 * dim)
        yield from pair(f'features.{2 * stage + 2}.norm', 4 * dim if version == 1 else 2 * dim)
    yield from pair('norm', sizes.last)
    yield from linear('head', sizes.last, CLASSES)


def torchvision_early(sizes: Sizes, version: int) -> Shapes:
    """torchvision's first V2 files, with another name for the logit scale."""
    for name, shape in torchvision(sizes, version):
        yield name.replace('.logit_scale', '.v2_logit_scale'), shape


def transformers(sizes: Sizes, version: int) -> Shapes:
    """Transformers: the files on the Hugging Face Hub."""
    root = 'swin' if version == 1 else 'swinv2'
    yield from patch(f'{root}.embeddings.patch_embeddings.projection', f'{root}.embeddings.norm', sizes.dim)
    for stage, block, dim, heads in sizes.blocks():
        stem = f'{root}.encoder.layers.{stage}.blocks.{block}'
        yield from pair(f'{stem}.layernorm_before', dim)
        attention = f'{stem}.attention.self'
        yield from linear(f'{attention}.query', dim, dim)
        yield from linear(f'{attention}.key', dim, dim, bias=version == 1)
        yield from linear(f'{attention}.value', dim, dim)
        if version == 1:
            yield f'{attention}.relative_position_bias_table', (sizes.table, heads)
            yield f'{attention}.relative_position_index', (sizes.window**2, sizes.window**2)
        else:
            yield f'{attention}.logit_scale', (heads, 1, 1)
            yield from linear(f'{attention}.continuous_position_bias_mlp.0', 2, 512)
            yield f'{attention}.continuous_position_bias_mlp.2.weight', (heads, 512)
        yield from linear(f'{stem}.attention.output.dense', dim, dim)
        yield from pair(f'{stem}.layernorm_after', dim)
        yield from linear(f'{stem}.intermediate.dense', dim, 4 * dim)
        yield from linear(f'{stem}.output.dense', 4 * dim, dim)
    for stage, dim in sizes.merges():
        stem = f'{root}.encoder.layers.{stage}.downsample'
        yield f'{stem}.reduction.weight', (2 * dim, 4 * dim)
        yield from pair(f'{stem}.norm', 4 * dim if version == 1 else 2 * dim)
    yield from pair(f'{root}.layernorm', sizes.last)
    yield from linear('classifier', sizes.last, CLASSES)


def transformers_module(sizes: Sizes, version: int) -> Shapes:
    """Names of V1's modules in Transformers 5."""
    replacements = [
        ('attention.self.query', 'attention.q_proj'),
        ('attention.self.key', 'attention.k_proj'),
        ('attention.self.value', 'attention.v_proj'),
        ('attention.self.', 'attention.relative_position_bias.'),
        ('attention.output.dense', 'attention.o_proj'),
        ('intermediate.dense', 'mlp.fc1'),
        ('output.dense', 'mlp.fc2'),
    ]
    for name, shape in transformers(sizes, version):
        if name.endswith('relative_position_index'):
            continue
        for old, new in replacements:
            if old in name:
                name = name.replace(old, new)
                break
        yield name, shape


def detectron2(sizes: Sizes, version: int) -> Shapes:
    """Backbones of Mask2Former and related code: original names, with an index but without masks."""
    for name, shape in original(sizes, version):
        if not name.endswith('attn_mask'):
            yield f'backbone.{name}', shape


def simmim(sizes: Sizes, version: int) -> Shapes:
    """Released files of SimMIM: prefix 'encoder.', and in V2 an earlier name of the MLP for position biases."""
    for name, shape in original(sizes, version):
        yield f'encoder.{name.replace(".cpb_mlp.", ".rpe_mlp.")}', shape
    yield 'encoder.mask_token', (1, 1, sizes.dim)


def maskformer(sizes: Sizes, version: int) -> Shapes:
    """MaskFormer's backbone in Transformers without its output norms, and the norm and head of a classifier."""
    for name, shape in transformers(sizes, version):
        yield name.replace('swin.', 'model.', 1), shape


# By name: function, Swin versions that it supports, and the loader's name of the layout.
LAYOUTS = {
    'original': (original, (1, 2), 'original'),
    'timm': (timm, (1, 2), 'timm'),
    'timm_old': (timm_old, (1, 2), 'original'),
    'timm_features': (timm_features, (1, 2), 'timm (features only)'),
    'mm': (mm, (1, 2), 'mmdet'),
    'torchvision': (torchvision, (1, 2), 'torchvision'),
    'torchvision_early': (torchvision_early, (2,), 'torchvision'),
    'transformers': (transformers, (1, 2), 'transformers'),
    'transformers_module': (transformers_module, (1,), 'transformers (in memory)'),
    'detectron2': (detectron2, (1, 2), 'original'),
    'simmim': (simmim, (1, 2), 'original'),
    'maskformer': (maskformer, (1,), 'transformers'),
}


def layout_state(layout: str, sizes: Sizes, version: int, device: str = 'cpu') -> dict[str, Tensor]:
    """Return random weights in ``layout`` with correct buffers; for 'meta' only the buffers have values."""
    out = {}
    for name, shape in LAYOUTS[layout][0](sizes, version):
        if name.endswith('relative_position_index'):
            out[name] = index(sizes.window).reshape(shape)
        elif name.endswith('relative_coords_table'):
            out[name] = coordinates(sizes.window).reshape(shape)
        else:
            out[name] = torch.empty(shape, device='meta') if device == 'meta' else torch.randn(shape)
    return out


def index(window: int) -> Tensor:
    """Compute the original ``relative_position_index`` from its definition."""
    places = [(row, column) for row in range(window) for column in range(window)]
    rows = [[(a[0] - b[0] + window - 1) * (2 * window - 1) + a[1] - b[1] + window - 1 for b in places] for a in places]
    return torch.tensor(rows)


def coordinates(window: int, pretrained: int = 0) -> Tensor:
    """Compute the original ``relative_coords_table`` from its definition."""
    axis = torch.arange(-(window - 1), window, dtype=torch.float32) / ((pretrained or window) - 1) * 8
    grid = torch.stack(torch.meshgrid(axis, axis, indexing='ij'), dim=-1)[None]
    return grid.sign() * (grid.abs() + 1).log2() / 3
