"""Reading a run's own checkpoints without running code that a file may hold."""

import os

import numpy as np
import torch
from mmengine.logging import HistoryBuffer


def run_checkpoint_globals() -> list[object]:
    """The classes that a checkpoint of mmengine holds besides tensors: log histories and the numpy arrays in them."""
    reconstruct = np.ndarray.__reduce__(np.empty(0))[0]
    scalar = np.float64(0).__reduce__()[0]
    kinds = {type(np.dtype(name)) for name in ('float64', 'float32', 'int64', 'int32', 'bool')}
    return [HistoryBuffer, np.ndarray, np.dtype, reconstruct, scalar, *kinds]


def read_checkpoints_safely() -> None:
    """From here on ``torch.load`` unpickles data only, and accepts what a run's own checkpoint holds.

    mmengine 0.10 calls ``torch.load`` with its default, which since PyTorch 2.6 refuses log histories; the maintained
    forks fall back to unpickling anything. With this, both read their checkpoints, and neither runs code from them.
    """
    torch.serialization.add_safe_globals(run_checkpoint_globals())
    os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'
