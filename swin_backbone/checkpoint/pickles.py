"""Allow-lists of the globals that a pickle in a checkpoint may name, with replacements that run no code.

Files of ``torch.save`` are read by PyTorch's ``weights_only`` unpickler with :func:`safe_globals`; other pickles, such
as Detectron2's .pkl of numpy arrays, by :func:`load_arrays`, which has a shorter list.
"""

import io
import pickle
import re
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pickle import UnpicklingError
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

# Classes of settings that training scripts save with the weights; they are read as plain dicts.
SETTINGS = (
    'addict.addict.Dict',
    'argparse.Namespace',
    'collections.defaultdict',
    'detectron2.config.config.CfgNode',
    'easydict.EasyDict',
    'fvcore.common.config.CfgNode',
    'lightning.fabric.utilities.data.AttributeDict',
    'lightning_fabric.utilities.data.AttributeDict',
    'mmcv.utils.config.ConfigDict',
    'mmengine.config.config.ConfigDict',
    'pathlib.Path',
    'pathlib.PosixPath',
    'pathlib.WindowsPath',
    'pytorch_lightning.utilities.parsing.AttributeDict',
    'yacs.config.CfgNode',
)
HISTORY = 'mmengine.logging.history_buffer'
PLAIN_DTYPE = re.compile(r'[|<>=]?[biufcSU]\d+')
NUMPY_CORES = ('numpy.core', 'numpy._core')
"""Modules that pickles of numpy 1 and 2 name."""


class Settings:
    """Replacement for a class of settings: a dict, which accepts items and attributes and runs no code."""

    def __new__(cls, *args: object) -> 'OrderedDict[str, Any]':  # type: ignore[misc]
        """Return an OrderedDict, whose attributes the ``weights_only`` unpickler can set."""
        return OrderedDict()


class PlainDtype:
    """Replacement for ``numpy.dtype``: numbers and strings of fixed size only, no objects or records."""

    def __init__(self, code: str, *args: object) -> None:
        if not PLAIN_DTYPE.fullmatch(code):
            raise UnpicklingError(f'GLOBAL numpy.dtype({code})')
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Set the byte order; the rest of a dtype's state is only used by records."""
        if state[1] in ('<', '>'):
            self.dtype = self.dtype.newbyteorder(state[1])


class PlainArray(np.ndarray[Any, Any]):
    """Replacement for ``numpy.ndarray``: accepts only a :class:`PlainDtype`, and is pickled as a plain array."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Set shape and contents; numpy checks that they agree."""
        _, shape, dtype, fortran, data = state
        if isinstance(data, str):  # written by Python 2
            data = data.encode('latin1')
        if not isinstance(dtype, PlainDtype) or not isinstance(data, bytes):
            raise UnpicklingError('GLOBAL numpy.ndarray')
        super().__setstate__((1, shape, dtype.dtype, fortran, data))

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle as a plain array, so that no file names this class."""
        return np.array(self, subok=False).__reduce_ex__(protocol)


def new_array(kind: object, *args: object) -> PlainArray:
    """Replacement for numpy's array constructor; ``__setstate__`` sets the contents."""
    return PlainArray((0,))


def new_scalar(dtype: PlainDtype, data: bytes) -> Any:
    """Replacement for numpy's scalar constructor."""
    return np.frombuffer(data, dtype.dtype, count=1)[0]


def new_dtype(code: str, *args: object) -> PlainDtype:
    """Replacement for ``numpy.dtype`` that does not expose the class :class:`PlainDtype` to the pickle."""
    return PlainDtype(code)


def from_buffer(data: bytes, dtype: PlainDtype, shape: tuple[int, ...], order: str, *axes: Any) -> Any:
    """Replacement for numpy's array constructor of pickle protocol 5."""
    array: Any = np.frombuffer(data, dtype.dtype)
    if order == 'K' and axes and axes[0] is not None:
        return array.reshape(shape).transpose(axes[0])
    return array.reshape(shape, order='F' if order == 'F' else 'C')


def latin_bytes(text: str, *encoding: object) -> bytes:
    """Replacement for ``_codecs.encode``, which pickles of protocol 2 use for bytes."""
    return text.encode('latin1')


def load_storage(data: bytes) -> Any:
    """Read the storage of a pickled tensor with ``weights_only=True``."""
    return torch.load(io.BytesIO(data), map_location='cpu', weights_only=True)


def tensor_of(storage: object, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *others: object) -> Tensor:
    """Replacement for PyTorch's tensor constructor; ``set_`` checks that the storage is large enough."""
    if not isinstance(storage, torch.TypedStorage):
        raise UnpicklingError('GLOBAL torch._utils._rebuild_tensor_v2')
    return torch.empty(0, dtype=storage.dtype).set_(storage, offset, size, stride)


def data_of(data: object, *others: object) -> object:
    """Replacement for PyTorch's parameter constructor; returns the tensor."""
    return data


def statistic(owner: object, name: str) -> Any:
    """Replacement for ``getattr``, which mmengine's HistoryBuffer uses to name its four statistics."""
    if owner is not history_class() or name not in ('min', 'max', 'mean', 'current'):
        raise UnpicklingError('GLOBAL builtins.getattr')
    return getattr(owner, name, None)


def history_class() -> type:
    """Return mmengine's HistoryBuffer if mmengine is imported, otherwise :class:`Settings`."""
    module = sys.modules.get(HISTORY)
    return Settings if module is None else module.HistoryBuffer


def history_globals() -> list[tuple[Any, str]]:
    """Return the globals in pickles of mmengine's HistoryBuffer with replacements, for ``torch.serialization``."""
    numpy: list[tuple[Any, str]] = [(PlainDtype, 'numpy.dtype'), (PlainArray, 'numpy.ndarray')]
    for core in NUMPY_CORES:
        numpy += [(new_array, f'{core}.multiarray._reconstruct'), (new_scalar, f'{core}.multiarray.scalar')]
    return [*numpy, (history_class(), f'{HISTORY}.HistoryBuffer'), (statistic, 'builtins.getattr')]


def allowed_globals() -> list[tuple[Any, str]]:
    """Return the globals that a checkpoint may name: those of mmengine's HistoryBuffer and classes of settings."""
    return [*history_globals(), (dict, 'builtins.dict'), *((Settings, name) for name in SETTINGS)]


@contextmanager
def safe_globals(allowed: Callable[[], list[tuple[Any, str]]] = allowed_globals) -> Iterator[None]:
    """Let ``torch.load(..., weights_only=True)`` read the checkpoints of common training code in this context.

    These are mmengine's (loss history, numpy scalars) and those with settings of yacs, argparse and others; nothing in
    them is run. mmengine's loss history is restored as such if mmengine is imported, which resuming needs.

    Args:
        allowed: :func:`allowed_globals`, or :func:`history_globals` for mmengine's loss history only.
    """
    before, ours = torch.serialization.get_safe_globals(), allowed()
    names = {name for _, name in ours}
    named = [
        (entry, entry[1] if isinstance(entry, tuple) else f'{entry.__module__}.{entry.__qualname__}')
        for entry in before
    ]
    others = [entry for entry, name in named if name not in names]
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals([*others, *ours])
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


# Contains no class but the immutable OrderedDict, because a pickle can set attributes of any object it can name.
ARRAYS: dict[str, Any] = {
    'numpy.dtype': new_dtype,
    'numpy.ndarray': 'numpy.ndarray',
    '_codecs.encode': latin_bytes,
    'collections.OrderedDict': OrderedDict,
    # Mask2Former's script that converts files of torch.save to .pkl leaves tensors in them.
    'torch.storage._load_from_bytes': load_storage,
    'torch._utils._rebuild_tensor_v2': tensor_of,
    'torch._utils._rebuild_parameter': data_of,
}
for core in NUMPY_CORES:
    ARRAYS[f'{core}.multiarray._reconstruct'] = new_array
    ARRAYS[f'{core}.multiarray.scalar'] = new_scalar
    ARRAYS[f'{core}.numeric._frombuffer'] = from_buffer


class ArrayUnpickler(pickle.Unpickler):
    """Unpickler for numbers, numpy arrays, tensors and plain containers."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """Return the replacement for a global that the pickle names.

        Raises:
            UnpicklingError: if it is not in :data:`ARRAYS`.
        """
        if f'{module}.{name}' not in ARRAYS:
            raise UnpicklingError(f'GLOBAL {module}.{name}')
        return ARRAYS[f'{module}.{name}']


def load_arrays(file: BinaryIO) -> Any:
    """Return the contents of a pickle of arrays or tensors; pickles of Python 2 are decoded like in Detectron2."""
    return ArrayUnpickler(file, encoding='latin1').load()
