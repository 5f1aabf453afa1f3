"""Reading a run's own checkpoints without running code that a file may hold."""

import os

import torch
from mmengine.logging import HistoryBuffer  # noqa: F401 - the list below answers with it only once it is loaded
from mmengine.runner import checkpoint

from swin_backbone.checkpoint import allowed_globals


def read_checkpoints_safely() -> None:
    """From here on ``torch.load`` unpickles data only, and accepts what a run's own checkpoint holds.

    mmengine 0.10 calls ``torch.load`` with its default, which since PyTorch 2.6 refuses log histories; the maintained
    forks fall back to unpickling anything. With this, both read their checkpoints, and neither runs code from them.
    """
    torch.serialization.add_safe_globals([*allowed_globals()])
    # The forks list numpy's own constructors anew for each read: PyTorch would take theirs or ours, as chance has it.
    if hasattr(checkpoint, 'get_torch_safe_globals'):
        checkpoint.get_torch_safe_globals = list
    os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'
