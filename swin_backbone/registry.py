"""Child registries that MMDetection and MMSegmentation search for ``type='swin_backbone.…'``.

mmengine imports ``<scope>.registry`` by itself when it meets a type of an unknown scope, so a config needs no
``custom_imports``. This module is the only entry from OpenMMLab; ``import swin_backbone`` does not import it.
"""

import sys
from importlib import import_module

from mmengine.registry import DATASETS as ROOT_DATASETS
from mmengine.registry import HOOKS as ROOT_HOOKS
from mmengine.registry import METRICS as ROOT_METRICS
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as ROOT_CONSTRUCTORS
from mmengine.registry import TASK_UTILS as ROOT_TASK_UTILS
from mmengine.registry import TRANSFORMS as ROOT_TRANSFORMS
from mmengine.registry import Registry

import swin_backbone.mmcv_ops  # noqa: F401  serves mmcv's operators, before a toolkit imports them

SCOPE = 'swin_backbone'

# Modules that register something, imported once the toolkit they extend is in use: a machine may have only one of them.
EXTENSIONS = {
    'mmengine': ('swin_backbone.openmmlab.backbones', 'swin_backbone.openmmlab.layer_decay'),
    'mmdet.registry': ('swin_backbone.openmmlab.detection',),
    'mmseg.registry': ('swin_backbone.openmmlab.segmentation',),
}


class PluginRegistry(Registry):
    """A registry whose modules are imported with the toolkit they extend."""

    def import_from_location(self) -> None:
        """Import the extensions of every toolkit loaded so far; called by mmengine before each look-up."""
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
