"""Find a Swin backbone in a checkpoint and convert it to the native layout, and convert native weights to others."""

import sys
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from swin_backbone.checkpoint.layouts import (
    ANCHORS,
    NATIVE_BLOCK,
    NATIVE_MERGE,
    ORIGINAL,
    TIMM,
    Layout,
    fill,
    flip,
    parse,
    rename,
    swap_start,
)
from swin_backbone.checkpoint.network_kind import VIDEO, network_of, with_final_norm
from swin_backbone.checkpoint.output_norms import State, name_classifier_norm, number_classifier_norm, numbered_norms
from swin_backbone.checkpoint.parameter_names import plain
from swin_backbone.checkpoint.related_networks import refuse_related_networks
from swin_backbone.errors import InputError

QKV = ('query', 'key', 'value')
# Order of the neighbours (row, column) of a merged patch: original 00 10 01 11, nn.Unfold 00 01 10 11. Self-inverse.
NEIGHBOURS = [0, 2, 1, 3]


def version_of(names: Iterable[str]) -> int:
    """Return 1 or 2; only V2 has a learned logit scale or an MLP for position biases."""
    return 2 if any(name.endswith(('logit_scale', 'cpb_mlp.2.weight')) for name in names) else 1


def merges_start_stages(state: State) -> bool:
    """Whether patch merging is stored with the stage after it: its output then has the channels of that stage."""
    for name, weight in state.items():
        parsed = parse(NATIVE_MERGE, name)
        if parsed and parsed[2] == 'reduction.weight':
            norm = state.get(fill(NATIVE_BLOCK, parsed[0]) + 'norm1.weight')
            if norm is not None and weight.shape[:1] == norm.shape:
                return True
    return False


def shift_merges(state: State, by: int) -> State:
    """Move every merging layer by ``by`` stages."""
    moved = {key: parse(NATIVE_MERGE, key) for key in state}
    return {fill(NATIVE_MERGE, at[0] + by) + at[2] if (at := moved[key]) else key: state[key] for key in state}


def unfold_to_official(weight: Tensor) -> Tensor:
    """Reorder the last axis ``[4C]`` from ``4 * c + neighbour`` to ``neighbour * C + c``."""
    return weight.unflatten(-1, (-1, 4)).transpose(-1, -2)[..., NEIGHBOURS, :].flatten(-2)


def official_to_unfold(weight: Tensor) -> Tensor:
    """The inverse of :func:`unfold_to_official`."""
    return weight.unflatten(-1, (4, -1))[..., NEIGHBOURS, :].transpose(-1, -2).flatten(-2)


def reorder_merges(state: State, order: Callable[[Tensor], Tensor]) -> State:
    """Apply ``order`` to the weights with ``4C`` channels in patch merging: the reduction, and in V1 its norm."""
    out = dict(state)
    for key, weight in state.items():
        if parse(NATIVE_MERGE, key) and key.endswith('.reduction.weight') and weight.shape[-1] % 4 == 0:
            out[key] = order(weight)
            for kind in ('weight', 'bias'):
                name = f'{key.removesuffix("reduction.weight")}norm.{kind}'
                if name in state and state[name].shape[-1] == weight.shape[-1]:
                    out[name] = order(state[name])
    return out


def join_qkv(state: State) -> State:
    """Concatenate separate query, key and value projections into one; V2 has no key bias."""
    out, v2 = dict(state), version_of(state) == 2
    for key in state:
        stem, found, kind = key.rpartition('.query.')
        names = [f'{stem}.{part}.{kind}' for part in QKV]
        if not found or not all(name in out for name in (names[::2] if v2 and kind == 'bias' else names)):
            continue
        if v2 and kind == 'bias':
            out.update({f'{stem}.q_bias': out.pop(names[0]), f'{stem}.v_bias': out.pop(names[2])})
        else:
            out[f'{stem}.qkv.{kind}'] = torch.cat([out.pop(name) for name in names])
    return out


def split_qkv(state: State) -> State:
    """The inverse of :func:`join_qkv`."""
    out: State = {}
    for key, value in state.items():
        stem, found, kind = key.rpartition('.qkv.')
        if found:
            out.update(zip((f'{stem}.{part}.{kind}' for part in QKV), value.chunk(3), strict=True))
        else:
            out[key.replace('.q_bias', '.query.bias').replace('.v_bias', '.value.bias')] = value
    return out


def split_bias(state: State) -> State:
    """V2: split the joint QKV bias into query and value biases; the key part is dropped, since V2 has no key bias."""
    out = dict(state)
    for key in state:
        if key.endswith('.attn.qkv.bias'):
            query, _, value = out.pop(key).tensor_split(3)
            stem = key.removesuffix('qkv.bias')
            out.update({f'{stem}q_bias': query, f'{stem}v_bias': value})
    return out


def fuse_bias(state: State) -> State:
    """The inverse of :func:`split_bias`, with a key bias of zeros."""
    out = dict(state)
    for key in state:
        if key.endswith('.attn.q_bias'):
            stem = key.removesuffix('q_bias')
            query, value = out.pop(key), out.pop(f'{stem}v_bias')
            out[f'{stem}qkv.bias'] = torch.cat([query, torch.zeros_like(query), value])
    return out


SHARED_BIAS = 'layers.{stage}.rel_pos_bias.'


def spread_shared_bias(state: State) -> State:
    """Copy a position bias that is shared by the blocks of a stage into each block (Feature Distillation)."""
    out = dict(state)
    for key in state:
        parsed = parse(SHARED_BIAS, key)
        if parsed is not None:
            stage, _, rest = parsed
            name, value = swap_start(f'attn.{rest}', flip(ORIGINAL.inner)), out.pop(key)
            blocks = {at[1] for other in state if (at := parse(NATIVE_BLOCK, other)) and at[0] == stage}
            out.update({fill(NATIVE_BLOCK, stage, block) + name: value for block in blocks})
    return out


# If a file contains several copies of a network, the averaged one is loaded, as in the training code that writes it.
AVERAGED = frozenset(
    {
        'ema',
        'ema_model',
        'ema_state',
        'ema_state_dict',
        'model_ema',
        'modelTeacher',
        'params_ema',
        'state_dict_ema',
        'teacher',
    }
)
PASSED_OVER = frozenset(
    {
        'encoder_k',
        'feature_model',  # the frozen network that Feature Distillation learns from
        'modelStudent',
        'momentum_encoder',
        'online_model',
        'student',
    }
)
# mmengine swaps the two on saving: its ema_state_dict contains the weights that are not averaged, and a step counter.
SWAPPED, SWAPPED_BY = 'ema_state_dict', 'ema_state_dict.steps'
MAX_NESTING = 5


@dataclass(frozen=True)
class Found:
    """A backbone found in a checkpoint.

    Attributes:
        state: weights and buffers under native names; keys without a native name are unchanged.
        layout: name of the layout of the checkpoint.
        names: names of the backbone's tensors in the checkpoint.
        other_tensors: number of tensors in the checkpoint that do not belong to the backbone.
        ignored: prefixes of other backbones in the checkpoint.
        numbered: names of vectors that may be output norms under another name, see
            :func:`.output_norms.numbered_norms`.
    """

    state: State
    layout: str
    names: frozenset[str]
    other_tensors: int
    ignored: tuple[str, ...] = ()
    numbered: tuple[str, ...] = ()

    @property
    def version(self) -> int:
        """Version of Swin Transformer, 1 or 2."""
        return version_of(self.state)


def find_backbone(checkpoint: Mapping[Any, Any], source: str) -> Found:
    """Recognise the layout of ``checkpoint`` from its keys and convert its backbone to native names.

    Args:
        checkpoint: a state dict, or nested dicts with one, of a backbone or of a whole model.
        source: name of the checkpoint in error messages.

    Raises:
        InputError: if there is no Swin backbone in it, or several and it is not clear which one to load.
    """
    tensors = flatten(checkpoint)
    names = {plain(key): key for key in tensors}
    if len(names) < len(tensors):
        raise InputError(
            f'{source} contains the same tensors with and without wrapper prefixes such as _orig_mod: keep one of them.'
        )
    tensors = {name: tensors[key] for name, key in names.items()}
    candidates: dict[str, Layout] = {}
    for key in tensors:
        for anchor, layout in ANCHORS.items():
            if key == anchor or key.endswith(f'.{anchor}'):
                candidates[key.removesuffix(anchor)] = layout
    if not candidates:
        refuse_related_networks(tensors, source)
        some = list(tensors)[:4]
        listed = f'{", ".join(some)}{", …" if len(tensors) > len(some) else ""}'
        content = f'its {len(tensors)} tensors are named {listed}' if tensors else 'there are no tensors in it'
        raise InputError(f'{source} contains no Swin backbone in any known layout: {content}.')
    prefix = choose_prefix(candidates, tensors, source)
    selected = select_backbone(tensors, prefix, candidates[prefix])
    backbone = {name: tensors[key] for key, name in selected.items()}
    try:
        state, layout = to_native(backbone, candidates[prefix])
    except (RuntimeError, IndexError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f'{source} contains a Swin backbone with inconsistent weight shapes ({reason}).') from error
    refuse_related_networks(state, source)
    return Found(
        state=state,
        layout=layout.name,
        names=frozenset(names[key] for key in selected),
        other_tensors=len(tensors) - len(selected),
        ignored=tuple(other for other in candidates if other != prefix),
        numbered=tuple(numbered_norms(tensors, {prefix, parent_of(prefix)}, state)),
    )


def flatten(tree: Mapping[Any, Any], prefix: str = '', depth: int = MAX_NESTING) -> State:
    """Return all tensors and numeric arrays in nested dicts; the keys are their paths, joined by dots."""
    out: State = {}
    np = sys.modules.get('numpy')  # if numpy is not imported, no value is a numpy array
    for key, value in tree.items():
        if isinstance(value, Tensor):
            out[f'{prefix}{key}'] = value
        elif np is not None and isinstance(value, np.ndarray) and value.dtype.kind in 'biufc':
            # PyTorch supports neither other byte orders nor negative strides, nor memory that is read-only.
            out[f'{prefix}{key}'] = torch.from_numpy(np.array(value, value.dtype.newbyteorder('='), order='C'))
        elif isinstance(value, Mapping) and depth:
            out.update(flatten(value, f'{prefix}{key}.', depth - 1))
    return out


def choose_prefix(prefixes: Iterable[str], names: Container[str], source: str) -> str:
    """Choose which of several backbones in a file to load, by the prefixes of their names."""
    ranks: dict[int, list[str]] = {}
    for prefix in prefixes:
        parts = set(prefix.split('.'))
        passed_over = parts & PASSED_OVER or (SWAPPED in parts and SWAPPED_BY in names)
        ranks.setdefault(2 if passed_over else 0 if parts & AVERAGED else 1, []).append(prefix)
    best = ranks[min(ranks)]
    if len(best) > 1:
        raise InputError(
            f'{source} contains {len(best)} Swin backbones, under {", ".join(map(repr, best))}: save the one to load '
            'in a separate file.'
        )
    return best[0]


def parent_of(prefix: str) -> str:
    """Return a prefix without its last part, with a trailing dot."""
    parent = prefix.rstrip('.').rpartition('.')[0]
    return f'{parent}.' if parent else ''


MMPRETRAIN_HEAD = (('head.', 'head.fc.'),)
"""Head of an MMPretrain classifier with this package's backbone, whose own names are native: (native, file)."""


def select_backbone(names: Iterable[str], prefix: str, layout: Layout) -> dict[str, str]:
    """Map each name of the backbone under ``prefix``, and of its head next to it, to the name in ``layout``."""
    parent, here = parent_of(prefix), flip(layout.outside or MMPRETRAIN_HEAD)
    out: dict[str, str] = {}
    for key in names:
        if key.startswith(prefix):
            out[key] = key.removeprefix(prefix) if prefix else swap_start(key, here)
        elif key.startswith(tuple(parent + start for start, _ in here)):
            out[key] = swap_start(key.removeprefix(parent), here)
    return out


def to_native(state: State, layout: Layout) -> tuple[State, Layout]:
    """Convert ``state``, whose keys have no prefix, to native names; distinguish timm from the original layout."""
    native = {rename(key, layout): value for key, value in state.items()}
    if merges_start_stages(native):
        if layout is ORIGINAL:
            return to_native(state, TIMM)
        native = shift_merges(native, -1)
    if layout is ORIGINAL:
        native = spread_shared_bias(native)
    if layout.unfold:
        native = reorder_merges(name_classifier_norm(native), unfold_to_official)
    if layout.split:
        native = join_qkv(native)
    if layout.fused_bias and version_of(native) == 2:
        native = split_bias(native)
    return (with_final_norm(native) if network_of(native) == VIDEO else native), layout


def from_native(state: State, layout: Layout) -> State:
    """Convert native ``state`` to ``layout``, with the prefixes of that implementation's files."""
    version = version_of(state)
    if layout.fused_bias and version == 2:
        state = fuse_bias(state)
    if layout.split:
        state = split_qkv(state)
    if layout.unfold:
        state = reorder_merges(number_classifier_norm(state), official_to_unfold)
    if version in layout.late_merge:
        state = shift_merges(state, 1)
    out: State = {}
    for key, value in state.items():
        name = rename(key, layout, back=True)
        is_outside = name.startswith(tuple(here for here, _ in layout.outside))
        out[swap_start(name, layout.outside) if is_outside else layout.roots[version - 1] + name] = value
    return out
