"""What the pickle in a checkpoint may name, and what answers to it: nothing that runs code.

A file of ``torch.save`` goes through PyTorch's ``weights_only`` reader with :func:`safe_globals`; any other pickle,
such as Detectron2's .pkl of numpy arrays, through :func:`load_arrays`, whose list is shorter.
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

# Settings that training scripts save beside the weights: kept as plain dicts, whatever they were.
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
"""Where numpy 1 and 2 keep what their pickles name."""


class Settings:
    """Replace a class of settings by a dict, which takes items and attributes and runs nothing."""

    def __new__(cls, *args: object) -> 'OrderedDict[str, Any]':  # type: ignore[misc]
        """A dict of the kind whose attributes the ``weights_only`` reader can set."""
        return OrderedDict()


class PlainDtype:
    """Replace ``numpy.dtype``: a number or a string of fixed size, never an object or a record."""

    def __init__(self, code: str, *args: object) -> None:
        if not PLAIN_DTYPE.fullmatch(code):
            raise UnpicklingError(f'GLOBAL numpy.dtype({code})')
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take the byte order; the rest of a dtype's state only matters for records."""
        if state[1] in ('<', '>'):
            self.dtype = self.dtype.newbyteorder(state[1])


class PlainArray(np.ndarray[Any, Any]):
    """Replace ``numpy.ndarray``: is filled from a :class:`PlainDtype` only, and pickled as a plain array."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take shape and contents, which numpy checks against each other."""
        _, shape, dtype, fortran, data = state
        if isinstance(data, str):  # of Python 2
            data = data.encode('latin1')
        if not isinstance(dtype, PlainDtype) or not isinstance(data, bytes):
            raise UnpicklingError('GLOBAL numpy.ndarray')
        super().__setstate__((1, shape, dtype.dtype, fortran, data))

    def __reduce_ex__(self, protocol: Any) -> Any:
        """As a plain array: no file should name this class."""
        return np.array(self, subok=False).__reduce_ex__(protocol)


def new_array(kind: object, *args: object) -> PlainArray:
    """Replace numpy's array constructor; the contents follow."""
    return PlainArray((0,))


def new_scalar(dtype: PlainDtype, data: bytes) -> Any:
    """Replace numpy's scalar constructor."""
    return np.frombuffer(data, dtype.dtype, count=1)[0]


def new_dtype(code: str, *args: object) -> PlainDtype:
    """Replace ``numpy.dtype`` where the class itself should be out of reach."""
    return PlainDtype(code)


def from_buffer(data: bytes, dtype: PlainDtype, shape: tuple[int, ...], order: str, *axes: Any) -> Any:
    """Replace numpy's array constructor of pickle protocol 5."""
    array: Any = np.frombuffer(data, dtype.dtype)
    if order == 'K' and axes and axes[0] is not None:
        return array.reshape(shape).transpose(axes[0])
    return array.reshape(shape, order='F' if order == 'F' else 'C')


def latin_bytes(text: str, *encoding: object) -> bytes:
    """Replace ``_codecs.encode``, with which pickles of protocol 2 write bytes."""
    return text.encode('latin1')


def load_storage(data: bytes) -> Any:
    """Read the storage of a pickled tensor with ``weights_only=True``."""
    return torch.load(io.BytesIO(data), map_location='cpu', weights_only=True)


def tensor_of(storage: object, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *others: object) -> Tensor:
    """Replace PyTorch's constructor of tensors, which checks that the storage is large enough."""
    if not isinstance(storage, torch.TypedStorage):
        raise UnpicklingError('GLOBAL torch._utils._rebuild_tensor_v2')
    return torch.empty(0, dtype=storage.dtype).set_(storage, offset, size, stride)


def data_of(data: object, *others: object) -> object:
    """Replace PyTorch's constructor of parameters: the tensor in one."""
    return data


def statistic(owner: object, name: str) -> Any:
    """Replace ``getattr``, with which mmengine's history names its own four statistics."""
    if owner is not history_class() or name not in ('min', 'max', 'mean', 'current'):
        raise UnpicklingError('GLOBAL builtins.getattr')
    return getattr(owner, name, None)


def history_class() -> type:
    """mmengine's record of losses where mmengine is in use, otherwise a dict."""
    module = sys.modules.get(HISTORY)
    return Settings if module is None else module.HistoryBuffer


def history_globals() -> list[tuple[Any, str]]:
    """What mmengine's record of losses names, each with the object that answers to it, for ``torch.serialization``."""
    numpy: list[tuple[Any, str]] = [(PlainDtype, 'numpy.dtype'), (PlainArray, 'numpy.ndarray')]
    for core in NUMPY_CORES:
        numpy += [(new_array, f'{core}.multiarray._reconstruct'), (new_scalar, f'{core}.multiarray.scalar')]
    return [*numpy, (history_class(), f'{HISTORY}.HistoryBuffer'), (statistic, 'builtins.getattr')]


def allowed_globals() -> list[tuple[Any, str]]:
    """What a checkpoint may name: mmengine's record and the settings of training codes."""
    return [*history_globals(), (dict, 'builtins.dict'), *((Settings, name) for name in SETTINGS)]


@contextmanager
def safe_globals(answers: Callable[[], list[tuple[Any, str]]] = allowed_globals) -> Iterator[None]:
    """Within this context, ``torch.load(..., weights_only=True)`` reads the checkpoints of common training codes.

    That is mmengine's (loss history, numpy scalars), those with settings of yacs or argparse, and nothing that runs
    code. Resuming needs the same: mmengine's history comes back as itself.

    Args:
        answers: :func:`allowed_globals`, or :func:`history_globals` alone.
    """
    before, ours = torch.serialization.get_safe_globals(), answers()
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


# No class is among them but one that cannot be changed: a pickle can set attributes of whatever it gets hold of.
ARRAYS: dict[str, Any] = {
    'numpy.dtype': new_dtype,
    'numpy.ndarray': 'numpy.ndarray',
    '_codecs.encode': latin_bytes,
    'collections.OrderedDict': OrderedDict,
    # Mask2Former's script that turns a file of torch.save into a .pkl leaves tensors in it.
    'torch.storage._load_from_bytes': load_storage,
    'torch._utils._rebuild_tensor_v2': tensor_of,
    'torch._utils._rebuild_parameter': data_of,
}
for core in NUMPY_CORES:
    ARRAYS[f'{core}.multiarray._reconstruct'] = new_array
    ARRAYS[f'{core}.multiarray.scalar'] = new_scalar
    ARRAYS[f'{core}.numeric._frombuffer'] = from_buffer


class ArrayUnpickler(pickle.Unpickler):
    """Reads numbers, arrays of numpy, tensors and plain containers."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """What answers to a name in the pickle.

        Raises:
            UnpicklingError: it is not in :data:`ARRAYS`.
        """
        if f'{module}.{name}' not in ARRAYS:
            raise UnpicklingError(f'GLOBAL {module}.{name}')
        return ARRAYS[f'{module}.{name}']


def load_arrays(file: BinaryIO) -> Any:
    """The contents of a pickle of arrays or tensors; what Python 2 wrote is read as Detectron2 does."""
    return ArrayUnpickler(file, encoding='latin1').load()
