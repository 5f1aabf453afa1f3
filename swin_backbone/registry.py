"""Child registries that MMDetection and MMSegmentation search for ``type='swin_backbone.…'``.

mmengine imports ``<scope>.registry`` automatically for a type of an unknown scope, so configs need no
``custom_imports``. This module is the only entry point for OpenMMLab; ``import swin_backbone`` does not import it.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from importlib import import_module
from typing import Any
from unittest.mock import patch

import torch
from mmengine.logging import HistoryBuffer  # noqa: F401  the safe reader accepts this class only if it is imported
from mmengine.registry import DATASETS as ROOT_DATASETS
from mmengine.registry import HOOKS as ROOT_HOOKS
from mmengine.registry import METRICS as ROOT_METRICS
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as ROOT_CONSTRUCTORS
from mmengine.registry import TASK_UTILS as ROOT_TASK_UTILS
from mmengine.registry import TRANSFORMS as ROOT_TRANSFORMS
from mmengine.registry import Registry
from mmengine.runner import CheckpointLoader, checkpoint

import swin_backbone.mmcv_ops  # noqa: F401  provides mmcv's operators before a toolkit imports them
from swin_backbone.checkpoint.pickles import history_globals, safe_globals

SCOPE = 'swin_backbone'

# Modules that register types, imported once the toolkit that they extend is imported: not every toolkit is installed.
EXTENSIONS = {
    'mmengine': ('swin_backbone.openmmlab.backbones', 'swin_backbone.openmmlab.layer_decay'),
    'mmdet.registry': ('swin_backbone.openmmlab.detection',),
    'mmseg.registry': ('swin_backbone.openmmlab.segmentation',),
}


class PluginRegistry(Registry):
    """A registry whose modules are imported with the toolkit they extend."""

    def import_from_location(self) -> None:
        """Import the extensions of every toolkit that is imported; mmengine calls this before each look-up."""
        for toolkit, extensions in EXTENSIONS.items():
            if toolkit in sys.modules:
                for extension in extensions:
                    import_module(extension)


DATASETS = PluginRegistry('dataset', parent=ROOT_DATASETS, scope=SCOPE)
MODELS = PluginRegistry('model', parent=ROOT_MODELS, scope=SCOPE)
TASK_UTILS = PluginRegistry('task util', parent=ROOT_TASK_UTILS, scope=SCOPE)
HOOKS = PluginRegistry('hook', parent=ROOT_HOOKS, scope=SCOPE)
METRICS = PluginRegistry('metric', parent=ROOT_METRICS, scope=SCOPE)
TRANSFORMS = PluginRegistry('transform', parent=ROOT_TRANSFORMS, scope=SCOPE)
OPTIM_WRAPPER_CONSTRUCTORS = PluginRegistry('optimizer wrapper constructor', parent=ROOT_CONSTRUCTORS, scope=SCOPE)


def reading_history(loader: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a loader of mmengine so that it reads the loss history in checkpoints of its Runner, and runs no code.

    PyTorch's list of safe globals and mmengine's functions are changed only during the call.
    """

    @wraps(loader)
    def load(*args: Any, **options: Any) -> Any:
        with safe_globals(history_globals), without_running_code():
            content = loader(*args, **options)
        meta = content.get('meta') if isinstance(content, dict) else None
        if isinstance(meta, dict):
            meta.pop('config', None)  # mmengine would execute this text when it resumes
        return content

    return load


@contextmanager
def without_running_code() -> Iterator[None]:
    """Make mmengine load files from URLs, and the forks load all files, with ``weights_only=True`` only."""
    load_url = partial(checkpoint.load_url, weights_only=True)
    with (
        patch.object(checkpoint, 'load_url', load_url),
        patch.object(checkpoint, '_safe_torch_load', torch.load, create=True),  # has weights_only=False as a fallback
    ):
        yield


# Names such as torchvision://resnet50 are loaded from URLs too.
for prefix, scheme_loader in list(CheckpointLoader._schemes.items()):
    CheckpointLoader.register_scheme(prefix, reading_history(scheme_loader), force=True)
