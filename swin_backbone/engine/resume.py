"""Selection and checks of the checkpoint from which a run is resumed."""

import logging
import math
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner import Runner

from swin_backbone.checkpoint import read_checkpoint, safe_globals
from swin_backbone.checkpoint.find import find_file
from swin_backbone.engine.lock import is_first_process
from swin_backbone.engine.path_check import check_local
from swin_backbone.engine.run_checkpoints import INTERRUPTED, POINTER
from swin_backbone.errors import InputError

LOGGER = logging.getLogger('swin_backbone')

NEW_RUN = 'start a new run from it with --cfg-options load_from=FILE.'
POSITION = ('epoch', 'iter')
SHOWN = 3


def set_resume(config: Config, resume: str | None) -> None:
    """Apply ``--resume``: a path, or 'auto' for the newest intact checkpoint of the work dir.

    The run continues with the seed of the checkpoint.

    Args:
        config: a config with a work dir; changed in place.
        resume: the value of the option; None to use the config's ``resume``.

    Raises:
        InputError: if the checkpoint does not exist or cannot be resumed, or the folder has no intact checkpoint.
    """
    load_from = config.get('load_from')
    if resume is None and not config.get('resume'):
        if isinstance(load_from, str):
            check_local(load_from, 'load_from')
        return
    if resume is None:
        resume = load_from or 'auto'
    if resume == 'auto':
        path = newest_intact(Path(config.work_dir), checkpoint_folder(config), checkpoint_patterns(config))
        if path is None:
            warn(f'--resume: there is no checkpoint in {config.work_dir} yet, the run starts from its beginning')
            config.resume = False
            return
    else:
        path = find_file(resume)
        if not path.is_file():
            raise InputError(
                f'--resume {resume} does not exist: give a checkpoint, or --resume without a value for the newest one.'
            )
    config.resume, config.load_from = True, str(path)
    use_saved_seed(config, read_state(path)['meta'].get('seed'))


def use_saved_seed(config: Config, seed: Any) -> None:
    """Use the seed with which the run was started."""
    randomness = config.get('randomness') or {}
    given = randomness.get('seed')
    if isinstance(seed, int) and seed != given:
        if given is not None:
            warn(f'the run was started with seed {seed} and continues with it: seed {given} is not used')
        config.randomness = {**randomness, 'seed': seed}


def warn(text: str) -> None:
    """Log a warning in the first process only."""
    if is_first_process():
        LOGGER.warning(text)


def checkpoint_folder(config: Config) -> Path:
    """Return the checkpoint folder: the work dir, or a folder with its name in the hook's ``out_dir``."""
    out_dir = (config.default_hooks.checkpoint or {}).get('out_dir')
    work_dir = Path(config.work_dir)
    return work_dir if out_dir is None else Path(out_dir) / work_dir.absolute().name


def checkpoint_patterns(config: Config) -> tuple[str, ...]:
    """Return glob patterns of the checkpoint names of a run."""
    template = (config.default_hooks.checkpoint or {}).get('filename_tmpl')
    own = [template.replace('{}', '*')] if isinstance(template, str) else []
    return (INTERRUPTED, 'epoch_*.pth', 'iter_*.pth', *own)


def newest_intact(work_dir: Path, folder: Path, patterns: Sequence[str]) -> Path | None:
    """Find the checkpoint in ``last_checkpoint`` or, if it is damaged, the newest one that can be resumed.

    Args:
        work_dir: the folder of ``last_checkpoint``.
        folder: the folder of the checkpoints.
        patterns: glob patterns of checkpoint names.

    Returns:
        The checkpoint; None if there is neither a pointer nor a checkpoint.

    Raises:
        InputError: if there are some, but none can be resumed.
    """
    pointed, problems = read_pointer(work_dir, folder)
    found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    for path in ([pointed] if pointed else []) + sorted(found - {pointed}, key=iteration_of, reverse=True):
        try:
            read_state(path)
        except InputError as error:
            problems.append(str(error))
            continue
        if problems:
            warn(f'{" ".join(problems)} The run continues from {path}')
        return path
    if problems:
        raise InputError(
            f'no checkpoint in {folder} can be resumed: {" ".join(problems)} Give an intact one with --resume FILE, '
            f'or remove {POINTER} and the damaged files to start again.'
        )
    return None


def read_pointer(work_dir: Path, folder: Path) -> tuple[Path | None, list[str]]:
    """Return the checkpoint that ``last_checkpoint`` points to, or the reason why it is not used."""
    pointer = work_dir / POINTER
    try:
        text = pointer.read_text(encoding='utf-8').strip()
        path = work_dir / text
        if not text or '://' in text or '\0' in text or path.resolve().parent != folder.resolve():
            return None, [f'{pointer} points to {text[:80]!r}, which is not in {folder}.']
        if not path.is_file():
            return None, [f'{pointer} points to {text}, which does not exist.']
    except FileNotFoundError:
        return None, []
    except (OSError, UnicodeDecodeError):
        return None, [f'{pointer} cannot be read.']
    return path, []


def iteration_of(path: Path) -> float:
    """Return the iteration of a checkpoint without reading its tensors; infinity if it is unknown."""
    try:
        with safe_globals():
            content = torch.load(str(path), map_location='cpu', weights_only=True, mmap=True)
        return float(content['meta']['iter'])
    except Exception:  # damaged files raise many types of errors; they are reported when they are read
        return math.inf


def read_state(path: Path) -> Mapping[str, Any]:
    """Read the checkpoint of a run and verify its checksums.

    Raises:
        InputError: if it is damaged, or does not contain the state of a run.
    """
    if zipfile.is_zipfile(path):
        check_sums(path)
    content = read_checkpoint(path)
    check_state(content, str(path))
    return content


def check_sums(path: Path) -> None:
    """Verify the checksums in a file written by ``torch.save``.

    Raises:
        InputError: if one differs.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError) as error:
        raise InputError(f'{path} is damaged or incomplete ({error}): copy it again.') from error
    if damaged is not None:
        raise InputError(f'{path} is damaged (wrong checksum of {damaged}): copy it again.')


def check_state(content: Mapping[str, Any], source: str) -> None:
    """Check that a checkpoint contains the state of a run.

    Raises:
        InputError: if it does not.
    """
    if not {'meta', 'message_hub'} <= content.keys():
        raise InputError(
            f'{source} cannot be resumed, because it contains weights without the state of a run: {NEW_RUN}'
        )
    meta = content['meta']
    values = [meta.get(key) for key in POSITION] if isinstance(meta, Mapping) else [None]
    if not all(isinstance(value, int) and value >= 0 for value in values):
        raise InputError(f'{source} cannot be resumed, because its epoch and iteration are missing: {NEW_RUN}')


def schedule_changes(runner: Runner, checkpoint: Mapping[str, Any]) -> str:
    """Return a warning if the resumed schedule and optimizer differ from the config's; '' if they do not."""
    found = [
        *changed_schedulers(runner.param_schedulers, checkpoint.get('param_schedulers')),
        *changed_optimizer(runner.optim_wrapper, checkpoint.get('optimizer')),
    ]
    if not found:
        return ''
    more = f' and {len(found) - SHOWN} more' if len(found) > SHOWN else ''
    return (
        f'WARNING: learning rate schedule and optimizer are resumed from the checkpoint and differ from the config '
        f'({"; ".join(found[:SHOWN])}{more}). To use those of the config, {NEW_RUN}'
    )


def changed_schedulers(own: Any, saved: Any) -> Iterator[str]:
    """Yield the differences between the config's schedulers and saved states."""
    if isinstance(own, dict) and isinstance(saved, dict):  # of several optimizers
        for name in own:
            yield from changed_schedulers(own[name], saved.get(name))
        return
    if not isinstance(own, list) or not isinstance(saved, list):
        return
    if len(own) != len(saved):
        yield f'{len(saved)} schedulers in the checkpoint, {len(own)} in the config'
    for scheduler, state in zip(own, saved, strict=False):
        for key, value in state.items() if isinstance(state, dict) else ():
            if re.match(r'_|last_step|verbose|base_values', key) or key not in vars(scheduler):
                continue
            if not same(vars(scheduler)[key], value):
                name = f'{type(scheduler).__name__}.{key}'
                yield f'{name} is {value} in the checkpoint, {vars(scheduler)[key]} in the config'


def changed_optimizer(wrapper: Any, saved: Any) -> Iterator[str]:
    """Yield the differences between the options of the config's optimizer and a saved state, each option once."""
    named = set()
    groups = saved.get('param_groups') if isinstance(saved, dict) else None
    for own, other in zip(getattr(wrapper, 'param_groups', ()), groups or (), strict=False):
        for key in ('initial_lr', 'weight_decay', 'momentum', 'betas', 'eps'):
            if key in own and key in other and key not in named and not same(own[key], other[key]):
                named.add(key)
                yield f'{key} is {other[key]} in the checkpoint, {own[key]} in the config'


def same(one: Any, other: Any) -> bool:
    """Return whether two numbers or sequences are equal; a list may equal a tuple."""
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return list(one) == list(other)
    return bool(one == other)
