"""The checkpoint that a run is resumed from: the newest intact one of its folder, or the given one."""

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
    """``--resume``: 'auto' takes the newest intact checkpoint of the work dir, a path that one.

    The run continues with the seed of the checkpoint.

    Args:
        config: with a work dir; changed in place.
        resume: the option's value; None leaves the decision to the config.

    Raises:
        InputError: the checkpoint named is not there or cannot be resumed, or no checkpoint of the folder is intact.
    """
    load_from = config.get('load_from')
    if resume is None and not config.get('resume'):
        if isinstance(load_from, str):
            check_local(load_from, 'load_from')
        return
    if resume is None:
        resume = load_from or 'auto'
    if resume == 'auto':
        path = newest_intact(Path(config.work_dir), checkpoint_folder(config), name_patterns(config))
        if path is None:
            tell(f'--resume: there is no checkpoint in {config.work_dir} yet, the run starts from its beginning')
            config.resume = False
            return
    else:
        path = find_file(resume)
        if not path.is_file():
            raise InputError(f'--resume {resume} is no file: give a checkpoint, or --resume alone for the newest one.')
    config.resume, config.load_from = True, str(path)
    take_seed(config, read_state(path)['meta'].get('seed'))


def take_seed(config: Config, seed: Any) -> None:
    """Go on with the seed of the run."""
    randomness = config.get('randomness') or {}
    given = randomness.get('seed')
    if isinstance(seed, int) and seed != given:
        if given is not None:
            tell(f'the run was started with seed {seed}, which it keeps: seed {given} is not used')
        config.randomness = {**randomness, 'seed': seed}


def tell(text: str) -> None:
    """Warn, in the first process alone."""
    if is_first_process():
        LOGGER.warning(text)


def checkpoint_folder(config: Config) -> Path:
    """Where a run writes its checkpoints: the work dir, or a folder of that name in the hook's ``out_dir``."""
    out_dir = (config.default_hooks.checkpoint or {}).get('out_dir')
    work_dir = Path(config.work_dir)
    return work_dir if out_dir is None else Path(out_dir) / work_dir.absolute().name


def name_patterns(config: Config) -> tuple[str, ...]:
    """How the names of a run's checkpoints look."""
    template = (config.default_hooks.checkpoint or {}).get('filename_tmpl')
    own = [template.replace('{}', '*')] if isinstance(template, str) else []
    return (INTERRUPTED, 'epoch_*.pth', 'iter_*.pth', *own)


def newest_intact(work_dir: Path, folder: Path, patterns: Sequence[str]) -> Path | None:
    """The checkpoint that ``last_checkpoint`` points to, or else the newest that can be resumed.

    Args:
        work_dir: holds the pointer.
        folder: holds the checkpoints.
        patterns: of their names.

    Returns:
        None if there is neither a pointer nor a checkpoint.

    Raises:
        InputError: there are, and none can be resumed.
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
            tell(f'{" ".join(problems)} The run goes on from {path}')
        return path
    if problems:
        raise InputError(
            f'no checkpoint in {folder} can be resumed: {" ".join(problems)} Name an intact one with --resume FILE, '
            f'or remove {POINTER} and the damaged files to start again.'
        )
    return None


def read_pointer(work_dir: Path, folder: Path) -> tuple[Path | None, list[str]]:
    """The checkpoint that ``last_checkpoint`` names, or the reason why it is not used."""
    pointer = work_dir / POINTER
    try:
        text = pointer.read_text(encoding='utf-8').strip()
        path = work_dir / text
        if not text or '://' in text or '\0' in text or path.resolve().parent != folder.resolve():
            return None, [f'{pointer} names {text[:80]!r}, which is no file of {folder}.']
        if not path.is_file():
            return None, [f'{pointer} names {text}, which is not there.']
    except FileNotFoundError:
        return None, []
    except (OSError, UnicodeDecodeError):
        return None, [f'{pointer} cannot be read.']
    return path, []


def iteration_of(path: Path) -> float:
    """After how many iterations a checkpoint was written, without reading its tensors; infinite if that is unknown."""
    try:
        with safe_globals():
            content = torch.load(str(path), map_location='cpu', weights_only=True, mmap=True)
        return float(content['meta']['iter'])
    except Exception:  # whatever a damaged file makes the reader raise: it is tried, and then reported
        return math.inf


def read_state(path: Path) -> Mapping[str, Any]:
    """What the checkpoint of a run holds.

    Raises:
        InputError: it is damaged, or not the state of a run.
    """
    if zipfile.is_zipfile(path):
        check_sums(path)
    content = read_checkpoint(path)
    check_state(content, str(path))
    return content


def check_sums(path: Path) -> None:
    """Compare the check sums in a file of ``torch.save``.

    Raises:
        InputError: one differs.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError) as error:
        raise InputError(f'{path} is damaged or incomplete ({error}): copy it again.') from error
    if damaged is not None:
        raise InputError(f'{path} is damaged (check sum of {damaged}): copy it again.')


def check_state(content: Mapping[str, Any], source: str) -> None:
    """Refuse to resume what is not the state of a run.

    Raises:
        InputError: it is not.
    """
    if not {'meta', 'message_hub'} <= content.keys():
        raise InputError(f'{source} cannot be resumed, it holds weights without the state of a run: {NEW_RUN}')
    meta = content['meta']
    values = [meta.get(key) for key in POSITION] if isinstance(meta, Mapping) else [None]
    if not all(isinstance(value, int) and value >= 0 for value in values):
        raise InputError(f'{source} cannot be resumed, it does not say after which epoch and iteration: {NEW_RUN}')


def schedule_changes(runner: Runner, checkpoint: Mapping[str, Any]) -> str:
    """Say where schedule and optimizer of a checkpoint, which are resumed, differ from the config's; '' if nowhere."""
    found = [
        *changed_schedulers(runner.param_schedulers, checkpoint.get('param_schedulers')),
        *changed_optimizer(runner.optim_wrapper, checkpoint.get('optimizer')),
    ]
    if not found:
        return ''
    more = f' and {len(found) - SHOWN} more' if len(found) > SHOWN else ''
    return (
        f'WARNING: learning rate and optimizer go on as the checkpoint has them, not as this config says '
        f'({"; ".join(found[:SHOWN])}{more}). To train with those of the config, {NEW_RUN}'
    )


def changed_schedulers(own: Any, saved: Any) -> Iterator[str]:
    """Differences between built schedulers and the states of others."""
    if isinstance(own, dict) and isinstance(saved, dict):  # of several optimizers
        for name in own:
            yield from changed_schedulers(own[name], saved.get(name))
        return
    if not isinstance(own, list) or not isinstance(saved, list):
        return
    if len(own) != len(saved):
        yield f'{len(saved)} schedulers there, {len(own)} here'
    for scheduler, state in zip(own, saved, strict=False):
        for key, value in state.items() if isinstance(state, dict) else ():
            if re.match(r'_|last_step|verbose|base_values', key) or key not in vars(scheduler):
                continue
            if not same(vars(scheduler)[key], value):
                yield f'{type(scheduler).__name__}.{key} is {value} there, {vars(scheduler)[key]} here'


def changed_optimizer(wrapper: Any, saved: Any) -> Iterator[str]:
    """Differences between the options of an optimizer and those of another's state, each named once."""
    named = set()
    groups = saved.get('param_groups') if isinstance(saved, dict) else None
    for own, other in zip(getattr(wrapper, 'param_groups', ()), groups or (), strict=False):
        for key in ('initial_lr', 'weight_decay', 'momentum', 'betas', 'eps'):
            if key in own and key in other and key not in named and not same(own[key], other[key]):
                named.add(key)
                yield f'{key} is {other[key]} there, {own[key]} here'


def same(one: Any, other: Any) -> bool:
    """Equality of numbers and lists; lists and tuples of the same numbers are equal."""
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return list(one) == list(other)
    return bool(one == other)
