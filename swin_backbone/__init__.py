"""Swin Transformer backbones for dense prediction, with plug-ins for MMDetection and MMSegmentation.

The public names need PyTorch, and ``Predictor`` also a toolkit. They are imported on first use, so that the command
line starts without these. The toolkits find this package automatically through :mod:`swin_backbone.registry`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swin_backbone.backbones.create import create_model
    from swin_backbone.backbones.mixer import SwinMixer
    from swin_backbone.backbones.swin import SwinTransformer
    from swin_backbone.backbones.video import VideoSwinTransformer
    from swin_backbone.checkpoint import LoadReport, load_pretrained
    from swin_backbone.classification.classifier import load_classifier
    from swin_backbone.engine.predict import Predictor
    from swin_backbone.errors import InputError
    from swin_backbone.variants import VARIANTS

__version__ = '0.2.0'
__all__ = [
    'VARIANTS',
    'InputError',
    'LoadReport',
    'Predictor',
    'SwinMixer',
    'SwinTransformer',
    'VideoSwinTransformer',
    '__version__',
    'create_model',
    'load_classifier',
    'load_pretrained',
]

_DEFINED_IN = {
    'InputError': 'errors',
    'LoadReport': 'checkpoint',
    'Predictor': 'engine.predict',
    'SwinMixer': 'backbones.mixer',
    'SwinTransformer': 'backbones.swin',
    'VARIANTS': 'variants',
    'VideoSwinTransformer': 'backbones.video',
    'create_model': 'backbones.create',
    'load_classifier': 'classification.classifier',
    'load_pretrained': 'checkpoint',
}


def __getattr__(name: str) -> Any:
    if name not in _DEFINED_IN:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'{__name__}.{_DEFINED_IN[name]}'), name)
