"""Checkpoints of whole models for testing, prediction and resuming: safe reading and strict loading."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from mmengine.logging import HistoryBuffer  # noqa: F401  the safe reader needs it to be imported
from mmengine.runner import CheckpointLoader, Runner, checkpoint
from torch import nn

from swin_backbone import SwinTransformer
from swin_backbone.checkpoint import read_checkpoint, safe_globals
from swin_backbone.checkpoint.find import find_file, is_remote
from swin_backbone.checkpoint.heads import translate_heads, unused_weights
from swin_backbone.checkpoint.load import match
from swin_backbone.checkpoint.published import released_for
from swin_backbone.errors import InputError

LOGGER = logging.getLogger('swin_backbone')

FORCE_SAFE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
ADVICE = 'give the config it was trained with.'
RELEASED = 'released'
"""Value of the CHECKPOINT argument that selects the file that the authors released for the config."""


def choose_source(checkpoint: str, config: str) -> str:
    """Return the checkpoint source for the CHECKPOINT argument of a command; :func:`find_file` downloads remote ones.

    Args:
        checkpoint: a source that :func:`find_file` accepts, or :data:`RELEASED`.
        config: the name or path of the config.

    Raises:
        InputError: if the file does not exist, or none was released for the config.
    """
    source = released_for(config) if checkpoint == RELEASED else checkpoint
    if not is_remote(source) and not find_file(source).exists():
        raise InputError(
            f'checkpoint {source} does not exist: give a .pth file written by training, the name of a published file, '
            f'or {RELEASED!r} for the file that the authors released.'
        )
    return source


@contextmanager
def reading_safely() -> Iterator[None]:
    """Make mmengine read checkpoints as data only; the previous state of the process is restored on exit.

    Local files are read by :func:`read_whole`. For remote files, mmengine 0.10 calls ``torch.load`` with its default,
    which rejects log histories, and the maintained forks fall back to unrestricted unpickling.
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
            # The forks add numpy's constructors on each read; PyTorch would pick theirs or ours nondeterministically.
            stack.enter_context(patch.object(checkpoint, 'get_torch_safe_globals', list))
        os.environ[FORCE_SAFE] = '1'
        try:
            yield
        finally:
            del os.environ[FORCE_SAFE]
            if before is not None:
                os.environ[FORCE_SAFE] = before


def load_from_local(path: str, map_location: Any = None) -> dict[str, Any]:
    """Read a checkpoint from a source onto the CPU. mmengine logs the name of this function."""
    return read_whole(path)


def load_from_http(url: str, map_location: Any = None) -> dict[str, Any]:
    """Read a checkpoint from a URL through mmengine's cache."""
    return translate(checkpoint.load_from_http(url, map_location), url)


def read_whole(source: str | Path) -> dict[str, Any]:
    """Read a checkpoint of a whole model and translate its necks and heads to current parameter names.

    Raises:
        InputError: if the file cannot be found or read, or its heads cannot be translated.
    """
    return translate(read_checkpoint(find_file(source)), source)


def translate(content: Mapping[str, Any], source: str | Path) -> dict[str, Any]:
    """Translate the necks and heads of a checkpoint to current parameter names and strip the prefix ``module.``.

    Raises:
        InputError: if the checkpoint has no state dict, or its heads cannot be translated.
    """
    state = content.get('state_dict', content)
    if not isinstance(state, Mapping):
        raise InputError(f'{source} contains no state dict: give a checkpoint written by training.')
    state = translate_heads({str(name).removeprefix('module.'): value for name, value in state.items()}, str(source))
    if isinstance(content.get('meta'), dict):
        content['meta'].pop('config', None)  # mmengine would run this text as Python when it resumes
    return {**content, 'state_dict': state} if 'state_dict' in content else state


def load_safely(runner: Runner) -> None:
    """Make a Runner load all weights and checkpoints inside :func:`reading_safely`."""
    for method in ('_init_model_weights', 'load_or_resume'):
        setattr(runner, method, reading_safely()(getattr(runner, method)))


def load_whole(model: nn.Module, source: str | Path, content: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    """Load every parameter of a model from a checkpoint, which may contain parts that the model does not have.

    Such parts, for example the mask head when the model predicts boxes only, are skipped with a warning.

    Args:
        model: a detector or segmenter.
        source: a source that :func:`find_file` accepts.
        content: the result of :func:`read_whole` for this source, if it was read already.

    Returns:
        The content of the checkpoint.

    Raises:
        InputError: if the checkpoint cannot be read, has a different backbone, has missing or mismatched weights, or
            has unexpected weights in a part that the model also has.
    """
    if content is None:
        content = read_whole(source)
    check_backbones(model, source, content)
    try:
        result = model.load_state_dict(content.get('state_dict', content), strict=False)
    except RuntimeError as error:
        reason = next((line.strip() for line in str(error).splitlines() if 'mismatch' in line), str(error))[:200]
        raise wrong_model_error(source, reason) from error
    statistics = [name for name, _ in model.named_buffers() if name.endswith(('running_mean', 'running_var'))]
    for kind, names in (('parameters', [*dict(model.named_parameters())]), ('batch statistics', statistics)):
        absent = sorted(set(result.missing_keys).intersection(names))
        if absent:
            reason = f'{len(absent)} of the {len(names)} {kind} of the model are missing, the first is {absent[0]}'
            raise wrong_model_error(source, reason)
    checked = tuple(f'{path}.' for path in backbones_of(model))
    parts, strays = unused_weights((name for name in result.unexpected_keys if not name.startswith(checked)), model)
    if strays:
        raise wrong_model_error(source, f'{len(strays)} weights of the file are unexpected, the first is {strays[0]}')
    if parts:
        LOGGER.warning(
            '%s: not loaded, because the model in this config has no such part: %s', source, ', '.join(parts)
        )
    return content


def wrong_model_error(source: str | Path, reason: str) -> InputError:
    """Return the error for a checkpoint that belongs to a different model than the config's."""
    return InputError(f'{source} is not a checkpoint of the model in this config ({reason}): {ADVICE}')


def check_backbones(model: nn.Module, source: str | Path, content: Mapping[str, Any]) -> None:
    """Check that a checkpoint covers each Swin backbone of a model exactly.

    Raises:
        InputError: if weights are missing, unexpected or of the wrong shape.
    """
    state = content.get('state_dict', content)
    for path, module in backbones_of(model).items():
        part = {name.removeprefix(f'{path}.'): state[name] for name in state if name.startswith(f'{path}.')}
        match(module, part, f'the part {path!r} of {source}')


def backbones_of(model: nn.Module) -> dict[str, SwinTransformer]:
    """Return the Swin backbones of a model, keyed by module path."""
    return {path: module for path, module in model.named_modules() if isinstance(module, SwinTransformer)}
