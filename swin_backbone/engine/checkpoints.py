"""One rule for checkpoints of whole models when testing, predicting and resuming: read as data only, and complete."""

import logging
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
from swin_backbone.checkpoint.find import find_file, is_remote
from swin_backbone.checkpoint.heads import left_over, translate_heads
from swin_backbone.checkpoint.load import match
from swin_backbone.checkpoint.published import released_for
from swin_backbone.errors import InputError

LOGGER = logging.getLogger('swin_backbone')

FORCE_SAFE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
ADVICE = 'give the config of its training.'
RELEASED = 'released'
"""In the place of a checkpoint: the file that the authors released for a config."""


def choose_source(checkpoint: str, config: str) -> str:
    """The source that CHECKPOINT means on a command line, which :func:`find_file` downloads if need be.

    Args:
        checkpoint: a source of :func:`find_file`, or :data:`RELEASED`.
        config: the name or path of the config.

    Raises:
        InputError: a file is not there, or none was released for the config.
    """
    source = released_for(config) if checkpoint == RELEASED else checkpoint
    if not is_remote(source) and not find_file(source).exists():
        raise InputError(
            f'there is no checkpoint {source}: give a .pth file that training has written, a published name, or '
            f"{RELEASED!r} for the authors' own file."
        )
    return source


@contextmanager
def reading_safely() -> Iterator[None]:
    """Let mmengine read checkpoints as data only, without leaving a trace in the process.

    What is no URL goes through :func:`read_whole`. For other places, mmengine 0.10 calls ``torch.load`` with its
    default, which refuses log histories; the maintained forks fall back to unpickling anything.
    """
    schemes = {
        **CheckpointLoader._schemes,
        **dict.fromkeys(('https://', 'http://'), load_from_http),
        '': load_from_local,
    }
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


def load_from_local(path: str, map_location: Any = None) -> dict[str, Any]:
    """Read what a source means onto the CPU; the name is the one that mmengine logs."""
    return read_whole(path)


def load_from_http(url: str, map_location: Any = None) -> dict[str, Any]:
    """Read a URL as mmengine does, from its own cache."""
    return translate(checkpoint.load_from_http(url, map_location), url)


def read_whole(source: str | Path) -> dict[str, Any]:
    """Read a checkpoint of a whole model, with necks and heads under today's names.

    Raises:
        InputError: it cannot be found or read, or its heads cannot be translated.
    """
    return translate(read_checkpoint(find_file(source)), source)


def translate(content: Mapping[str, Any], source: str | Path) -> dict[str, Any]:
    """The content of a checkpoint with necks and heads under today's names, and without ``module.`` before them.

    Raises:
        InputError: it holds no state dict, or its heads cannot be translated.
    """
    state = content.get('state_dict', content)
    if not isinstance(state, Mapping):
        raise InputError(f'{source} holds no state dict: give a checkpoint that training has written.')
    state = translate_heads({str(name).removeprefix('module.'): value for name, value in state.items()}, str(source))
    if isinstance(content.get('meta'), dict):
        content['meta'].pop('config', None)  # mmengine would run this text as Python when it resumes
    return {**content, 'state_dict': state} if 'state_dict' in content else state


def load_safely(runner: Runner) -> None:
    """Have a Runner read everything that it loads within :func:`reading_safely`."""
    for method in ('_init_model_weights', 'load_or_resume'):
        setattr(runner, method, reading_safely()(getattr(runner, method)))


def load_whole(model: nn.Module, source: str | Path, content: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    """Load every parameter of a model from a checkpoint, which may have parts that the model has not.

    Parts that are left out, such as the mask head of a model that predicts boxes alone, are named in a warning.

    Args:
        model: a detector or segmenter.
        source: as for :func:`find_file`.
        content: what :func:`read_whole` returned for it, if it was read already.

    Returns:
        What the checkpoint holds.

    Raises:
        InputError: it cannot be read, has another backbone, lacks weights of the right shape, or has some to spare in a
            part that the model has too.
    """
    if content is None:
        content = read_whole(source)
    check_backbones(model, source, content)
    try:
        result = model.load_state_dict(content.get('state_dict', content), strict=False)
    except RuntimeError as error:
        reason = next((line.strip() for line in str(error).splitlines() if 'mismatch' in line), str(error))[:200]
        raise other_model(source, reason) from error
    statistics = [name for name, _ in model.named_buffers() if name.endswith(('running_mean', 'running_var'))]
    for kind, names in (('parameters', [*dict(model.named_parameters())]), ('batch statistics', statistics)):
        absent = sorted(set(result.missing_keys).intersection(names))
        if absent:
            reason = f'it has no weights for {len(absent)} of its {len(names)} {kind}, the first is {absent[0]}'
            raise other_model(source, reason)
    checked = tuple(f'{path}.' for path in backbones_of(model))
    parts, strays = left_over((name for name in result.unexpected_keys if not name.startswith(checked)), model)
    if strays:
        raise other_model(source, f'it has no place for {len(strays)} weights of the file, the first is {strays[0]}')
    if parts:
        LOGGER.warning(
            '%s: not loaded, because the model in this config has no such part: %s', source, ', '.join(parts)
        )
    return content


def other_model(source: str | Path, reason: str) -> InputError:
    """The error for a checkpoint of another model than the config's."""
    return InputError(f'{source} is no checkpoint of the model in this config ({reason}): {ADVICE}')


def check_backbones(model: nn.Module, source: str | Path, content: Mapping[str, Any]) -> None:
    """Check that a checkpoint covers each Swin backbone of a model exactly.

    Raises:
        InputError: it does not.
    """
    state = content.get('state_dict', content)
    for path, module in backbones_of(model).items():
        part = {name.removeprefix(f'{path}.'): state[name] for name in state if name.startswith(f'{path}.')}
        match(module, part, f'the part {path!r} of {source}')


def backbones_of(model: nn.Module) -> dict[str, SwinTransformer]:
    """The Swin backbones of a model by their paths."""
    return {path: module for path, module in model.named_modules() if isinstance(module, SwinTransformer)}
