"""The pure steps between a dialect and the native form that renaming cannot do: each with its inverse."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from swin_backbone.checkpoint.names import NATIVE_MERGE, NATIVE_NORM, fill, parse

State = dict[str, Tensor]

QKV = ('query', 'key', 'value')
# Neighbours (row, column) of a merged patch: official 00 10 01 11, nn.Unfold 00 01 10 11. Self-inverse.
NEIGHBOURS = [0, 2, 1, 3]


def version_of(names: Iterable[str]) -> int:
    """1 or 2: only V2 learns a scale of the logits, or a network of position biases."""
    return 2 if any(name.endswith(('logit_scale', 'cpb_mlp.2.weight')) for name in names) else 1


def merges_start_stages(state: State) -> bool:
    """Whether merging stands at the start of the stage after it: then the first stage has none."""
    stages = {parsed[0] for key in state if (parsed := parse(NATIVE_MERGE, key))}
    return bool(stages) and 0 not in stages


def shift_merges(state: State, by: int) -> State:
    """Move every merging ``by`` stages."""
    out = {}
    for key, value in state.items():
        parsed = parse(NATIVE_MERGE, key)
        out[key if parsed is None else fill(NATIVE_MERGE, parsed[0] + by) + parsed[2]] = value
    return out


def unfold_to_official(weight: Tensor) -> Tensor:
    """Reorder the last axis ``[4C]`` from ``4 * c + neighbour`` to ``neighbour * C + c``."""
    return weight.unflatten(-1, (-1, 4)).transpose(-1, -2)[..., NEIGHBOURS, :].flatten(-2)


def official_to_unfold(weight: Tensor) -> Tensor:
    """The inverse of :func:`unfold_to_official`."""
    return weight.unflatten(-1, (4, -1))[..., NEIGHBOURS, :].transpose(-1, -2).flatten(-2)


def reorder_merges(state: State, order: Callable[[Tensor], Tensor]) -> State:
    """Apply ``order`` to what has the ``4C`` input channels of merging: the reduction, and V1's norm before it."""
    out = dict(state)
    for key, weight in state.items():
        if parse(NATIVE_MERGE, key) and key.endswith('.reduction.weight'):
            out[key] = order(weight)
            for norm in ('norm.weight', 'norm.bias'):
                name = key.removesuffix('reduction.weight') + norm
                if name in state and state[name].shape[-1] == weight.shape[-1]:
                    out[name] = order(state[name])
    return out


def join_qkv(state: State) -> State:
    """Stack separate projections of queries, keys and values into one; V2 has no bias on keys."""
    out = dict(state)
    v2 = version_of(state) == 2
    for key in state:
        stem, found, kind = key.rpartition('.query.')
        names = [f'{stem}.{part}.{kind}' for part in QKV]
        if not found:
            continue
        if v2 and kind == 'bias':
            names = [names[0], names[2]]
            targets = [f'{stem}.q_bias', f'{stem}.v_bias']
        else:
            targets = [f'{stem}.qkv.{kind}']
        if not all(name in out for name in names):
            continue
        parts = [out.pop(name) for name in names]
        out.update(zip(targets, parts if len(targets) > 1 else [torch.cat(parts)], strict=True))
    return out


def split_qkv(state: State) -> State:
    """The inverse of :func:`join_qkv`."""
    out: State = {}
    for key, value in state.items():
        stem, found, kind = key.rpartition('.qkv.')
        if found:
            out.update(zip((f'{stem}.{part}.{kind}' for part in QKV), value.chunk(3), strict=True))
        elif key.endswith(('.q_bias', '.v_bias')):
            stem, _, name = key.rpartition('.')
            out[f'{stem}.{"query" if name == "q_bias" else "value"}.bias'] = value
        else:
            out[key] = value
    return out


def split_bias(state: State) -> State:
    """V2: one bias of queries, keys and values into two; keys have none, whatever a file holds for them."""
    out = dict(state)
    for key in state:
        if key.endswith('.attn.qkv.bias'):
            query, _, value = out.pop(key).chunk(3)
            stem = key.removesuffix('qkv.bias')
            out.update({stem + 'q_bias': query, stem + 'v_bias': value})
    return out


def fuse_bias(state: State) -> State:
    """The inverse of :func:`split_bias`, with zeros for the keys."""
    out = dict(state)
    for key in state:
        if key.endswith('.attn.q_bias'):
            stem = key.removesuffix('q_bias')
            query, value = out.pop(key), out.pop(stem + 'v_bias')
            out[stem + 'qkv.bias'] = torch.cat([query, torch.zeros_like(query), value])
    return out


def output_norms(names: Iterable[str]) -> set[int]:
    """The stages that have an output norm."""
    return {parsed[0] for name in names if (parsed := parse(NATIVE_NORM, name))}


def name_classifier_norm(state: State) -> State:
    """Call a classifier's norm ``norm``, as in the original, where a dialect counts it among the output norms."""
    norms = output_norms(state)
    if 'head.weight' not in state or len(norms) != 1:
        return state
    numbered = fill(NATIVE_NORM, norms.pop())
    return {key.replace(numbered, 'norm.', 1) if key.startswith(numbered) else key: v for key, v in state.items()}


def number_classifier_norm(state: State) -> State:
    """The inverse of :func:`name_classifier_norm`; without its head, the norm is left out."""
    last = max((parsed[0] for key in state if (parsed := parse('layers.{stage}.', key))), default=0)
    out = {}
    for key, value in state.items():
        if not key.startswith('norm.'):
            out[key] = value
        elif 'head.weight' in state:
            out[fill(NATIVE_NORM, last) + key.removeprefix('norm.')] = value
    return out
