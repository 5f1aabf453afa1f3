"""Find a Swin backbone in whatever a checkpoint file holds, and bring it into native form; and the way back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from swin_backbone.checkpoint import regroup
from swin_backbone.checkpoint.names import (
    ANCHORS,
    ORIGINAL,
    TIMM,
    Dialect,
    dialect_name,
    flip,
    native_name,
    swap_start,
)
from swin_backbone.checkpoint.regroup import State
from swin_backbone.errors import InputError

# Of several copies of a network in one file, the averaged one is meant, as in the training code that writes it; what
# mmengine calls 'ema_state_dict' is the one without averaging, because it swaps the two on saving.
AVERAGED = frozenset({'state_dict_ema', 'model_ema', 'ema', 'ema_model', 'teacher'})
PASSED_OVER = frozenset({'ema_state_dict', 'student', 'online_model', 'encoder_k', 'momentum_encoder'})
MAX_NESTING = 5


@dataclass(frozen=True)
class Found:
    """A backbone found in a checkpoint.

    Attributes:
        state: its weights and buffers under native names; keys without a native name keep their own.
        dialect: the dialect it was written in.
        prefix: what stood before its keys, with the names of the dicts around it.
        beside: how many tensors of the checkpoint are no part of the backbone.
    """

    state: State
    dialect: str
    prefix: str
    beside: int

    @property
    def version(self) -> int:
        """1 or 2."""
        return regroup.version_of(self.state)


def flatten(tree: Mapping[Any, Any], prefix: str = '', depth: int = MAX_NESTING) -> State:
    """Every tensor of nested dicts under its path, joined by dots; all else is left out."""
    out: State = {}
    for key, value in tree.items():
        if isinstance(value, Tensor):
            out[f'{prefix}{key}'] = value
        elif isinstance(value, Mapping) and depth:
            out.update(flatten(value, f'{prefix}{key}.', depth - 1))
    return out


def find_backbone(checkpoint: Mapping[Any, Any], source: str) -> Found:
    """Recognise the dialect of ``checkpoint`` from its keys alone and translate its backbone.

    Args:
        checkpoint: what a file holds: a state dict, or dicts around one, of a backbone or of a whole detector.
        source: how to call it in errors.

    Raises:
        InputError: there is no Swin backbone in it, or more than one with nothing to tell which is meant.
    """
    tensors = flatten(checkpoint)
    candidates: dict[str, Dialect] = {}
    for key in tensors:
        for anchor, dialect in ANCHORS.items():
            if key == anchor or key.endswith(f'.{anchor}'):
                candidates[key.removesuffix(anchor)] = dialect
    if not candidates:
        raise InputError(f'{source} holds no Swin backbone in any known layout: {describe_keys(tensors)}.')
    prefix = choose_prefix(candidates, source)
    mine = take(tensors, prefix, candidates[prefix])
    state, dialect = to_native(mine, candidates[prefix])
    return Found(state, dialect.name, prefix, len(tensors) - len(mine))


def choose_prefix(prefixes: Mapping[str, Dialect], source: str) -> str:
    """The one of several backbones in a file that is meant."""

    def rank(prefix: str) -> int:
        parts = set(prefix.split('.'))
        return 2 if parts & PASSED_OVER else 0 if parts & AVERAGED else 1

    best = min(map(rank, prefixes))
    chosen = [prefix for prefix in prefixes if rank(prefix) == best]
    if len(chosen) > 1:
        raise InputError(
            f'{source} holds {len(chosen)} Swin backbones, under {", ".join(map(repr, chosen))}: save the one that is '
            'meant in a file of its own.'
        )
    return chosen[0]


def take(tensors: State, prefix: str, dialect: Dialect) -> State:
    """The part of ``tensors`` under ``prefix``, and what the dialect keeps beside the backbone."""
    parent = prefix.rstrip('.').rpartition('.')[0]
    parent = f'{parent}.' if parent else ''
    here = flip(dialect.beside)
    out: State = {}
    for key, value in tensors.items():
        if key.startswith(prefix):
            name = key.removeprefix(prefix)
            out[name if prefix else swap_start(name, here)] = value
        elif key.startswith(parent):
            name = key.removeprefix(parent)
            if any(name.startswith(start) for start, _ in here):
                out[swap_start(name, here)] = value
    return out


def to_native(state: State, dialect: Dialect) -> tuple[State, Dialect]:
    """Translate ``state``, whose keys have no prefix; also says whether an original layout is really timm's."""
    native = {native_name(key, dialect): value for key, value in state.items()}
    if regroup.merges_start_stages(native):
        if dialect is ORIGINAL:
            return to_native(state, TIMM)
        native = regroup.shift_merges(native, -1)
    if dialect.unfold:
        native = regroup.reorder_merges(regroup.name_classifier_norm(native), regroup.unfold_to_official)
    if dialect.split:
        native = regroup.join_qkv(native)
    if dialect.fused_bias and regroup.version_of(native) == 2:
        native = regroup.split_bias(native)
    return native, dialect


def from_native(state: State, dialect: Dialect) -> State:
    """Translate native ``state`` into ``dialect``, with the prefixes of a file of its own."""
    version = regroup.version_of(state)
    if dialect.fused_bias and version == 2:
        state = regroup.fuse_bias(state)
    if dialect.split:
        state = regroup.split_qkv(state)
    if dialect.unfold:
        state = regroup.reorder_merges(regroup.number_classifier_norm(state), regroup.official_to_unfold)
    if version in dialect.late_merge:
        state = regroup.shift_merges(state, 1)
    root = dialect.roots[version - 1]
    out: State = {}
    for key, value in state.items():
        name = dialect_name(key, dialect)
        outside = swap_start(name, dialect.beside)
        beside = any(name.startswith(start) for start, _ in dialect.beside)
        out[outside if beside else root + name] = value
    return out


def describe_keys(tensors: State) -> str:
    """What was found instead, for an error."""
    if not tensors:
        return 'there are no tensors in it'
    some = list(tensors)[:4]
    return f'its {len(tensors)} tensors are called {", ".join(some)}{", …" if len(tensors) > len(some) else ""}'
