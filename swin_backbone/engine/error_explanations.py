"""Explanations of errors that a config causes: one sentence with file, key and fix instead of a traceback."""

import difflib
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from mmengine.config import Config

from swin_backbone.checkpoint.find import is_remote
from swin_backbone.errors import InputError, RunFailure

LONGEST = 300
"""Maximum number of characters that are quoted from another library's message."""

WHILE_RUNNING = {
    'stack expects each tensor to be equal size': (
        'the images of a batch have different sizes: add a step with a fixed size to the pipeline, such as '
        "dict(type='RandomCrop', crop_size=(512, 512)) together with model.data_preprocessor.size, or use a batch size "
        'of 1.'
    ),
    'The image size in a batch should be the same': (
        'the images of a validation or test batch have different sizes: set val_dataloader.batch_size=1 and '
        'test_dataloader.batch_size=1.'
    ),
    'Expected more than 1 value per channel when training': (
        'a batch norm got a single value per channel, because a head pools a batch of one image to 1x1: '
        'use a batch size of at least 2 with train_dataloader.drop_last=True, or a norm without batch statistics such '
        "as model.decode_head.norm_cfg=dict(type='GN',num_groups=32)."
    ),
    'need at least one array to concatenate': (
        'a data set is empty after filtering: check its files, its classes and its filter_cfg (training skips images '
        'without objects of the classes).'
    ),
}
"""Beginning of an error message while running -> explanation and fix."""


@contextmanager
def explained(config: Config) -> Iterator[None]:
    """Replace errors while building parts of a config, and known errors while running, by a one-sentence message.

    Raises:
        InputError: if a part of the config cannot be built.
        RunFailure: if the error is listed in :data:`WHILE_RUNNING`. All other errors are re-raised unchanged.
    """
    try:
        yield
    except RunFailure as error:
        raise RunFailure(original(error)) from error
    except Exception as error:
        sentence = explain(error, config)
        if sentence is not None:
            raise InputError(sentence) from error
        known = advice_for(str(error))
        if known is None or isinstance(error, InputError):
            raise
        raise RunFailure(f'{config.filename}: {known}') from error


def original(error: Exception) -> str:
    """Return the message of a failure; a data loader worker wraps it in a traceback."""
    found = re.findall(r'^swin_backbone\.errors\.RunFailure: (.*)$', str(error), re.MULTILINE)
    return str(found[-1]) if found else str(error)


@contextmanager
def suggesting_config(checkpoint: str | Path) -> Iterator[None]:
    """Add to errors about a mismatched checkpoint where its config is.

    Raises:
        InputError: the same error, with the copy of the config that training saved next to the checkpoint.
    """
    from swin_backbone.engine.checkpoints import ADVICE

    try:
        yield
    except InputError as error:
        if not str(error).endswith(ADVICE):
            raise
        copies = [] if is_remote(str(checkpoint)) else sorted(Path(checkpoint).parent.glob('*.py'))
        copy = f', {copies[0]}' if len(copies) == 1 else ''
        begin = str(error).removesuffix(ADVICE)
        raise InputError(f'{begin}give the config it was trained with{copy}, or its classes with --classes.') from error


def explain(error: Exception, config: Config) -> str | None:
    """Return the explanation of an error; None if the config is not known to be its cause."""
    frame = building_frame(error.__traceback__)
    if frame is not None:
        return explain_build(error, config, frame)
    if isinstance(error, InputError):
        return None
    if passes_through(error.__traceback__, 'from_cfg', 'runner'):
        return (
            f'{config.filename} cannot be built: {shorten(str(error))}. Check its data loaders, loops and evaluators.'
        )
    return None


def advice_for(message: str) -> str | None:
    """Return the explanation in :data:`WHILE_RUNNING` of a message, if there is one."""
    return next((advice for beginning, advice in WHILE_RUNNING.items() if message.startswith(beginning)), None)


def building_frame(traceback: TracebackType | None) -> Mapping[str, Any] | None:
    """Return the local variables of the innermost ``build_from_cfg`` call in a traceback; None if there is none."""
    found = None
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if code.co_name == 'build_from_cfg' and code.co_filename.endswith('build_functions.py'):
            found = traceback.tb_frame.f_locals
        traceback = traceback.tb_next
    return found


def passes_through(traceback: TracebackType | None, function: str, module: str) -> bool:
    """Return whether a traceback contains this function of this module."""
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if code.co_name == function and Path(code.co_filename).stem == module:
            return True
        traceback = traceback.tb_next
    return False


def explain_build(error: Exception, config: Config, frame: Mapping[str, Any]) -> str:
    """Return a message with the part of a config that cannot be built, and the reason."""
    part = frame.get('cfg')
    kind, made = frame.get('obj_type'), frame.get('obj_cls')
    if not isinstance(part, Mapping):
        return f'{config.filename}: {path_of_value(config, part)} is {part!r}: give a dict with a type.'
    path = find_path(config, part) or 'a part'
    if kind is None and 'type' not in part:
        keys = ', '.join(list(part)[:5])
        return f'{config.filename}: {path} has no type (its keys are {keys}): add type=... .'
    name = kind if isinstance(kind, str) else getattr(kind, '__name__', kind or part.get('type'))
    place = f'{config.filename}: {path} ({name})'
    if made is None and isinstance(kind, str):
        return f'{config.filename}: {path}: {unknown_type(error, kind, frame.get("registry"))}'
    if isinstance(error, TypeError):
        unknown = unknown_keys(part, made, str(error))
        if unknown:
            return f'{place} {describe_unknown(unknown, path, made, config)}'
        missing = re.search(r'missing \d+ required .*?: (.+)', str(error))
        if missing:
            return f'{place} has no {missing[1]}, which is required: add it.'
    if isinstance(error, InputError):
        return f'{place}: {error}'
    known = advice_for(str(error))
    if known is not None:
        return f'{place}: {known}'
    return f'{place} cannot be built: {type(error).__name__}: {shorten(str(error))}'


def find_path(config: Config, part: Mapping[str, Any]) -> str:
    """Return the dotted path of the dict from which ``part`` was copied; parents may have added keys to the copy."""
    best, found = 0, ''
    for path, node in dicts_with_paths(config._cfg_dict, ''):
        if node.get('type') != part.get('type'):
            continue
        equal = sum(key in part and same(part[key], value) for key, value in node.items())
        score = 2 * equal - len(node)
        if node and (not found or score > best):
            best, found = score, path
    return found


def path_of_value(config: Config, value: Any) -> str:
    """Return the dotted path of a value inside the model of a config, the shortest if there are several."""
    paths = [
        f'{path}.{key}'
        for path, node in dicts_with_paths(config.model, 'model')
        for key, found in node.items()
        if type(found) is type(value) and same(found, value)
    ]
    return min(paths, key=lambda path: path.count('.'), default='a part')


def same(one: Any, other: Any) -> bool:
    """Return whether two config values are equal; values that cannot be compared, such as arrays, are different."""
    try:
        return bool(one == other)
    except (ValueError, RuntimeError):
        return False


def dicts_with_paths(node: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every dict inside nested dicts and lists with its dotted path in the syntax of ``--cfg-options``."""
    if isinstance(node, dict):
        yield path, node
        children = node.items()
    elif isinstance(node, (list, tuple)):
        children = ((str(index), child) for index, child in enumerate(node))  # type: ignore[assignment]
    else:
        return
    for key, child in children:
        yield from dicts_with_paths(child, f'{path}.{key}' if path else str(key))


def unknown_type(error: Exception, name: str, registry: Any) -> str:
    """Return the message for a type that is not registered, with the most similar registered name."""
    if not isinstance(error, KeyError):
        return f'type {name!r} cannot be imported: {shorten(str(error))}'
    names = set(registered(registry))
    scope, _, short = name.rpartition('.')
    close = difflib.get_close_matches(short, names, n=1)
    if not close:
        lower = {known.lower(): known for known in names}
        close = [lower[match] for match in difflib.get_close_matches(short.lower(), lower, n=1)]
    if close:
        return f'there is no type {name!r}: did you mean {f"{scope}.{close[0]}" if scope else close[0]!r}?'
    return f'there is no type {name!r}: check its name, or import its module with custom_imports.'


def registered(registry: Any) -> Iterator[str]:
    """Yield every name in a registry, its parents and their other children."""
    seen, waiting = set(), [registry]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield from one.module_dict
        waiting += [one.parent, *one.children.values()]


def unknown_keys(part: Mapping[str, Any], made: Any, message: str) -> list[str]:
    """Return the keys of a part that its constructor does not accept; empty if the error has a different cause."""
    named = re.search(r"unexpected keyword argument '(\w+)'", message)
    if named is None or named[1] not in part:
        return []
    known = arguments_of(made)
    return [named[1]] + [key for key in part if key not in (*known, 'type', '_scope_', named[1]) and not is_open(made)]


def arguments_of(made: Any) -> list[str]:
    """Return the argument names of a function or class, including those that a class passes on to its bases."""
    owners = made.__mro__ if inspect.isclass(made) else (made,)
    names: dict[str, None] = {}
    for owner in owners:
        call = owner.__dict__.get('__init__') if inspect.isclass(owner) else owner
        if inspect.isfunction(call):
            names.update(dict.fromkeys(inspect.signature(call).parameters))
            if not any(p.kind is p.VAR_KEYWORD for p in inspect.signature(call).parameters.values()):
                break
    return [name for name in names if name not in ('self', 'args', 'kwargs')]


def is_open(made: Any) -> bool:
    """Return whether a class or function accepts arbitrary keyword arguments."""
    try:
        return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(made).parameters.values())
    except (TypeError, ValueError):
        return True


def describe_unknown(keys: Sequence[str], path: str, made: Any, config: Config) -> str:
    """Return the message for keys that a part does not accept."""
    listed = ', '.join(map(repr, keys[:4])) + (f' and {len(keys) - 4} more' if len(keys) > 4 else '')
    close = difflib.get_close_matches(keys[0], arguments_of(made), n=1)
    meant = f'did you mean {close[0]!r}?' if close else ''
    if inherited(keys[0], config):
        return f'does not accept {listed}, inherited from a base config: set _delete_=True in {path}.'
    return f'does not accept {listed}: {meant or "remove it."}'


def inherited(key: str, config: Config) -> bool:
    """Return whether a key of a config is inherited, i.e. its own file does not contain it but a base config does."""
    try:
        own = Path(config.filename).read_text(encoding='utf-8')
    except (OSError, TypeError, UnicodeDecodeError):
        return False
    word = re.compile(rf'\b{re.escape(key)}\b')
    return word.search(own) is None and word.search(config.text) is not None


def shorten(message: str) -> str:
    """Return the beginning of a message on one line, without the quotes that KeyError adds."""
    line = ' '.join(message.split(', the current sys.path is')[0].split())
    if len(line) > 1 and line[0] == line[-1] and line[0] in '\'"' and line[0] not in line[1:-1]:
        line = line[1:-1]
    return line if len(line) <= LONGEST else f'{line[:LONGEST]}...'


def reading_problem(path: str, error: Exception) -> str:
    """Return why a config cannot be read: which file among it and its bases, the line, and the name or key."""
    if isinstance(error, RecursionError) or 'Too many open files' in str(error):
        return f'config {path} cannot be read: it is its own base, directly or through others. Change its _base_.'
    where, reason = innermost_file(path, error), f'{type(error).__name__}: {shorten(str(error))}'
    if isinstance(error, SyntaxError):
        where, reason = innermost_file(path, error, error.lineno), f'syntax error: {error.msg}'
    elif isinstance(error, FileNotFoundError):
        reason = f'{shorten(str(error))}; check its _base_'
    elif isinstance(error, NameError):
        reason = f'{error}; variables of a base config are written _base_.NAME'
    return f'config {where} cannot be read: {reason}. Correct it.'


def innermost_file(path: str, error: Exception, line: int | None = None) -> str:
    """Return the file that was being read when an error was raised, with the line if it is known."""
    found, traceback = path, error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if code.co_name == '_file2dict':
            found = str(traceback.tb_frame.f_locals.get('filename', found))
        elif code.co_filename == found:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return found if line is None else f'{found}, line {line},'
