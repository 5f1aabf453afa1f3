"""The rule for the norms of a backbone's outputs, which only some files contain."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from swin_backbone.checkpoint.layouts import NATIVE_NORM, fill, parse, swap_start

State = dict[str, Tensor]

PATCH_BIAS = 'patch_embed.proj.bias'
# Numbered vectors outside a backbone, such as 'out_norms.0.weight'.
NUMBERED = re.compile(r'(?P<family>[A-Za-z_]+(\.[A-Za-z_]*)?)(?P<number>\d+)\.(weight|bias)')


@dataclass(frozen=True)
class OutputNorms:
    """The result of the rule for one file and one model.

    Attributes:
        loaded: whether the file's output norms are loaded; it must then have all norms of the model except ``new``.
        unrecognised: names in the file that look like norms of its stages under unknown names, which is an error.
        new: stages whose norms keep their initial values although others are loaded.
    """

    loaded: bool
    unrecognised: tuple[str, ...] = ()
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
    """Decide whether the output norms of a model with the parameters ``wanted`` are loaded or new.

    1. The file has norms of stages under the names of its layout: they are loaded, and a norm that the model has and
       the file does not is an error. A norm of the last stage alone is used only if the model has no other, because
       it may be a classifier's.
    2. The file has numbered norms with the channels of several stages under unknown names: this is an error, because
       new norms would change the outputs of the network.
    3. The file has none, like those of classifiers: the model's norms are new. A classifier's norm is not an output
       norm, except the ``final`` norm of a video backbone: it is loaded for the last stage, and the others are new.

    Args:
        state: the file's backbone under native names.
        numbered: the result of :func:`numbered_norms` for the file.
        wanted: the model's parameters under native names.
        final: whether a norm of the last stage alone is an output norm.
    """
    in_file, in_model = output_norms(state), output_norms(wanted)
    if final and in_file == {last_stage(state)}:
        return OutputNorms(loaded=True, new=frozenset(in_model - in_file))
    if in_file and (in_model <= in_file or in_file != {last_stage(state)}):
        return OutputNorms(loaded=True)
    return OutputNorms(loaded=False, unrecognised=tuple(numbered) if in_model else ())


def numbered_norms(tensors: Mapping[str, Tensor], bases: Iterable[str], state: Mapping[str, Tensor]) -> list[str]:
    """Find numbered norms under ``bases`` that have the channels of several stages of ``state``.

    Args:
        tensors: all tensors of the file.
        bases: prefixes to search.
        state: the backbone under native names; its known output norms are skipped.
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
    """Whether a native name belongs to an output norm."""
    return parse(NATIVE_NORM, name) is not None


def output_norms(names: Iterable[str]) -> set[int]:
    """Return the stages that have an output norm."""
    return {parsed[0] for name in names if (parsed := parse(NATIVE_NORM, name))}


def last_stage(names: Iterable[str]) -> int:
    """Return the index of the last stage."""
    return max((parsed[0] for name in names if (parsed := parse('layers.{stage}.', name))), default=0)


def name_classifier_norm(state: State) -> State:
    """Rename a classifier's norm to ``norm``, as in the original, if the layout has it as an output norm."""
    norms = output_norms(state)
    if 'head.weight' not in state or len(norms) != 1:
        return state
    return {swap_start(key, [(fill(NATIVE_NORM, *norms), 'norm.')]): value for key, value in state.items()}


def number_classifier_norm(state: State) -> State:
    """The inverse of :func:`name_classifier_norm`; the norm is dropped if there is no head."""
    pairs = [('norm.', fill(NATIVE_NORM, last_stage(state)))]
    head = 'head.weight' in state
    return {swap_start(key, pairs): value for key, value in state.items() if head or not key.startswith('norm.')}
