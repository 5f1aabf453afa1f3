"""The few things besides tensors that common checkpoints hold, and harmless stand-ins to read them with.

PyTorch's ``weights_only`` reader refuses every class it does not know. Here a name on the list is answered with a
stand-in that only keeps data: nothing of yacs or of a training script is imported, let alone run. numpy's own
constructors are not on the list either, because a pickle may hand them a dtype that makes them read raw memory.
"""

import re
import sys
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch

# Settings that training scripts save beside the weights: kept as plain dicts, whatever they were.
SETTINGS = (
    'argparse.Namespace',
    'collections.defaultdict',
    'mmcv.utils.config.ConfigDict',
    'mmengine.config.config.ConfigDict',
    'pathlib.Path',
    'pathlib.PosixPath',
    'pathlib.WindowsPath',
    'yacs.config.CfgNode',
)
HISTORY = 'mmengine.logging.history_buffer'
PLAIN_DTYPE = re.compile(r'[|<>=]?[biufcSU]\d+')


class Settings:
    """Stands in for a class of settings: becomes a dict, which takes items and attributes and runs nothing."""

    def __new__(cls, *args: object) -> 'OrderedDict[str, Any]':  # type: ignore[misc]
        """A dict of the kind whose attributes the ``weights_only`` reader can set."""
        return OrderedDict()


class PlainDtype:
    """Stands in for ``numpy.dtype``: a number or a string of fixed size, never an object or a record."""

    def __init__(self, code: str, *args: object) -> None:
        if not PLAIN_DTYPE.fullmatch(code):
            raise UnpicklingError(f'GLOBAL numpy.dtype({code})')
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take the byte order; the rest of a dtype's state only matters for records."""
        if state[1] in ('<', '>'):
            self.dtype = self.dtype.newbyteorder(state[1])


class PlainArray(np.ndarray[Any, Any]):
    """Stands in for ``numpy.ndarray``: is filled from a :class:`PlainDtype` only, and pickled as a plain array."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take shape and contents, which numpy checks against each other."""
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, PlainDtype) or not isinstance(data, bytes):
            raise UnpicklingError('GLOBAL numpy.ndarray')
        super().__setstate__((1, shape, dtype.dtype, fortran, data))

    def __reduce_ex__(self, protocol: Any) -> Any:
        """As a plain array: no file should name this class."""
        return np.array(self, subok=False).__reduce_ex__(protocol)


def new_array(kind: object, *args: object) -> PlainArray:
    """Stands in for numpy's array constructor; the contents follow."""
    return PlainArray((0,))


def new_scalar(dtype: PlainDtype, data: bytes) -> Any:
    """Stands in for numpy's scalar constructor."""
    return np.frombuffer(data, dtype.dtype, count=1)[0]


def statistic(owner: object, name: str) -> Any:
    """Stands in for ``getattr``, with which mmengine's history names its own four statistics."""
    history = history_class()
    return getattr(history, name, None) if owner is history and name in ('min', 'max', 'mean', 'current') else None


def history_class() -> type:
    """mmengine's record of losses where mmengine is in use, otherwise a dict."""
    module = sys.modules.get(HISTORY)
    return Settings if module is None else module.HistoryBuffer


def allowed_globals() -> list[tuple[Any, str]]:
    """What a checkpoint may name, each with the object that answers to it, for ``torch.serialization``."""
    numpy: list[tuple[Any, str]] = [(PlainDtype, 'numpy.dtype'), (PlainArray, 'numpy.ndarray')]
    for module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
        numpy += [(new_array, f'{module}._reconstruct'), (new_scalar, f'{module}.scalar')]
    history = [(history_class(), f'{HISTORY}.HistoryBuffer'), (statistic, 'builtins.getattr')]
    return [*numpy, *history, (dict, 'builtins.dict'), *((Settings, name) for name in SETTINGS)]


@contextmanager
def safe_globals() -> Iterator[None]:
    """Within this context, ``torch.load(..., weights_only=True)`` reads the checkpoints of common training codes.

    That is mmengine's (loss history, numpy scalars), those with settings of yacs or argparse, and nothing that runs
    code. Resuming needs the same: mmengine's history comes back as itself.
    """
    before, ours = torch.serialization.get_safe_globals(), allowed_globals()
    names = {name for _, name in ours}
    others = [entry for entry in before if name_of(entry) not in names]
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals([*others, *ours])
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def name_of(entry: Any) -> str:
    """The name that an entry of PyTorch's list answers to."""
    return entry[1] if isinstance(entry, tuple) else f'{entry.__module__}.{entry.__qualname__}'
