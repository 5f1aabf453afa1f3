"""One rule for checkpoints of whole models when testing, predicting and resuming: read as data only, and complete."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from mmengine.logging import HistoryBuffer  # noqa: F401  the safe reader rebuilds it only where it is loaded
from mmengine.runner import CheckpointLoader, Runner, checkpoint
from torch import nn

from swin_backbone import SwinTransformer
from swin_backbone.checkpoint import read_checkpoint, safe_globals
from swin_backbone.checkpoint.find import find_file
from swin_backbone.checkpoint.load import match
from swin_backbone.errors import InputError

FORCE_SAFE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
ADVICE = 'give the config of its training.'


@contextmanager
def reading_safely() -> Iterator[None]:
    """Let mmengine read checkpoints as data only, without leaving a trace in the process.

    Local files go through :func:`swin_backbone.checkpoint.read_checkpoint`. For other places, mmengine 0.10 calls
    ``torch.load`` with its default, which refuses log histories; the maintained forks fall back to unpickling anything.
    """
    schemes = {**CheckpointLoader._schemes, '': load_from_local}
    before = os.environ.get(FORCE_SAFE)
    with ExitStack() as stack:
        stack.enter_context(safe_globals())
        stack.enter_context(patch.object(CheckpointLoader, '_schemes', schemes))
        if hasattr(checkpoint, 'get_torch_safe_globals'):
            # The forks add numpy's own constructors on each read: PyTorch would take theirs or ours, at random.
            stack.enter_context(patch.object(checkpoint, 'get_torch_safe_globals', list))
        os.environ[FORCE_SAFE] = '1'
        try:
            yield
        finally:
            del os.environ[FORCE_SAFE]
            if before is not None:
                os.environ[FORCE_SAFE] = before


def load_from_local(path: str, map_location: Any = None) -> Mapping[str, Any]:
    """Read a local file onto the CPU; the name is the one that mmengine logs."""
    return read_checkpoint(Path(path).expanduser())


def load_safely(runner: Runner) -> None:
    """Have a Runner read everything that it loads within :func:`reading_safely`."""
    for method in ('_init_model_weights', 'load_or_resume'):
        setattr(runner, method, reading_safely()(getattr(runner, method)))


def load_whole(model: nn.Module, source: str | Path, content: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    """Load every parameter of a model from a checkpoint, which may have heads that the model has not.

    Args:
        model: a detector or segmenter.
        source: a path or an address.
        content: what it holds, if it was read already.

    Returns:
        What the checkpoint holds.

    Raises:
        InputError: it cannot be read, has another backbone, or lacks weights of the right shape.
    """
    if content is None:
        content = read_checkpoint(find_file(source))
    state = check_backbones(model, source, content)
    try:
        missing = set(model.load_state_dict(state, strict=False).missing_keys)
    except RuntimeError as error:
        reason = next((line.strip() for line in str(error).splitlines() if 'mismatch' in line), str(error))[:200]
        raise InputError(f'{source} is no checkpoint of the model in this config ({reason}): {ADVICE}') from error
    statistics = [name for name, _ in model.named_buffers() if name.endswith(('running_mean', 'running_var'))]
    for kind, names in (('parameters', [*dict(model.named_parameters())]), ('batch statistics', statistics)):
        absent = sorted(missing.intersection(names))
        if absent:
            reason = f'it has no weights for {len(absent)} of its {len(names)} {kind}, the first is {absent[0]}'
            raise InputError(f'{source} is no checkpoint of the model in this config ({reason}): {ADVICE}')
    return content


def check_backbones(model: nn.Module, source: str | Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Check that a checkpoint covers each Swin backbone of a model exactly, and return its weights without ``module.``.

    Raises:
        InputError: it does not, or holds no weights.
    """
    state = content.get('state_dict', content)
    if not isinstance(state, Mapping):
        raise InputError(f'{source} holds no state dict: give a checkpoint that training has written.')
    state = {str(name).removeprefix('module.'): value for name, value in state.items()}
    for path, module in model.named_modules():
        if isinstance(module, SwinTransformer):
            part = {name.removeprefix(f'{path}.'): state[name] for name in state if name.startswith(f'{path}.')}
            match(module, part, f'the part {path!r} of {source}')
    return state
