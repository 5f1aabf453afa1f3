"""The one rule for the norms of a backbone's outputs, which are in some files and not in others."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from swin_backbone.checkpoint.layouts import NATIVE_NORM, fill, parse, swap_start

State = dict[str, Tensor]

PATCH_BIAS = 'patch_embed.proj.bias'
# Vectors that are numbered beside a backbone, as in 'out_norms.0.weight'.
NUMBERED = re.compile(r'(?P<family>[A-Za-z_]+(\.[A-Za-z_]*)?)(?P<number>\d+)\.(weight|bias)')


@dataclass(frozen=True)
class OutputNorms:
    """The result of the rule for one file and one model.

    Attributes:
        loaded: whether the file's output norms are loaded; all that the model has must be there then, but for ``new``.
        strange: names of norms that the file has for its stages and that are not known as such: an error.
        new: stages whose norms keep their initial values although others are loaded.
    """

    loaded: bool
    strange: tuple[str, ...] = ()
    new: frozenset[int] = frozenset()

    @property
    def partial(self) -> bool:
        """Whether norms of the model keep their initial values."""
        return not self.loaded or bool(self.new)

    def may_be_new(self, name: str) -> bool:
        """Whether ``name`` is an output norm that keeps its initial value."""
        parsed = parse(NATIVE_NORM, name)
        return parsed is not None and (not self.loaded or parsed[0] in self.new)


def decide_output_norms(
    state: Mapping[str, Tensor], numbered: Iterable[str], wanted: Mapping[str, Tensor], final: bool = False
) -> OutputNorms:
    """Decide where the output norms of a model with the parameters ``wanted`` come from.

    1. The file has norms of stages under a name that its layout knows: they are loaded, and one that the model needs
       and the file lacks is an error. A norm of the last stage alone counts only if the model has no other: it may be
       a classifier's.
    2. It has numbered norms with the channels of several stages under another name: an error, since new norms would
       give other maps than the network had.
    3. It has none, as files of classifiers: the model's are new. A classifier's one norm is not among them, except
       where it is the ``final`` one of a video backbone: then that of the last stage is loaded, and others are new.

    Args:
        state: the file's backbone under native names.
        numbered: what :func:`numbered_norms` finds in the file.
        wanted: the model's parameters under native names.
        final: whether a norm of the last stage alone is that of the output.
    """
    theirs, ours = output_norms(state), output_norms(wanted)
    if final and theirs == {last_stage(state)}:
        return OutputNorms(loaded=True, new=frozenset(ours - theirs))
    if theirs and (ours <= theirs or theirs != {last_stage(state)}):
        return OutputNorms(loaded=True)
    return OutputNorms(loaded=False, strange=tuple(numbered) if ours else ())


def numbered_norms(tensors: Mapping[str, Tensor], bases: Iterable[str], state: Mapping[str, Tensor]) -> list[str]:
    """Names of numbered norms below ``bases`` that have the channels of several stages of ``state``.

    Args:
        tensors: all of the file.
        bases: the prefixes below which they are sought.
        state: the backbone under native names, whose own output norms are left out.
    """
    width = state[PATCH_BIAS].numel() if PATCH_BIAS in state else 0
    channels = [width * 2**stage for stage in range(last_stage(state) + 1)]
    families: dict[str, dict[str, int]] = {}
    for base in bases:
        for name, tensor in tensors.items():
            match = NUMBERED.fullmatch(name.removeprefix(base)) if name.startswith(base) else None
            if match and tensor.dim() == 1 and not is_output_norm(name.removeprefix(base)):
                families.setdefault(base + match['family'], {})[name] = len(tensor)
    found = []
    for sizes in families.values():
        weights = [size for name, size in sizes.items() if name.endswith('.weight')]
        biases = [size for name, size in sizes.items() if name.endswith('.bias')]
        distinct = len(weights) > 1 and len(set(weights)) == len(weights)
        if distinct and sorted(weights) == sorted(biases) and set(weights) <= set(channels):
            found += list(sizes)
    return found


def is_output_norm(name: str) -> bool:
    """Whether a native name belongs to the norm of an output."""
    return parse(NATIVE_NORM, name) is not None


def output_norms(names: Iterable[str]) -> set[int]:
    """The stages that have an output norm."""
    return {parsed[0] for name in names if (parsed := parse(NATIVE_NORM, name))}


def last_stage(names: Iterable[str]) -> int:
    """The number of the last stage."""
    return max((parsed[0] for name in names if (parsed := parse('layers.{stage}.', name))), default=0)


def name_classifier_norm(state: State) -> State:
    """Call a classifier's norm ``norm``, as in the original, where a dialect counts it among the output norms."""
    norms = output_norms(state)
    if 'head.weight' not in state or len(norms) != 1:
        return state
    return {swap_start(key, [(fill(NATIVE_NORM, *norms), 'norm.')]): value for key, value in state.items()}


def number_classifier_norm(state: State) -> State:
    """The inverse of :func:`name_classifier_norm`; without its head, the norm is left out."""
    pairs = [('norm.', fill(NATIVE_NORM, last_stage(state)))]
    head = 'head.weight' in state
    return {swap_start(key, pairs): value for key, value in state.items() if head or not key.startswith('norm.')}
