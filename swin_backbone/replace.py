"""Replace the toolkits' SwinTransformer by MMSwinTransformer: ``custom_imports=['swin_backbone.replace']``.

Configs of MMDetection and MMSegmentation then use this package's backbone without edits. The toolkits' own classes can
still be imported from ``mmdet.models.backbones.swin`` and ``mmseg.models.backbones.swin``.
"""

import logging
import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import swin_backbone.registry  # noqa: F401  provides mmcv's operators before a toolkit imports them
from swin_backbone.backbones.mm_swin import MMSwinTransformer

TOOLKITS = ('mmdet', 'mmseg')
NAME = 'SwinTransformer'
LOGGER = logging.getLogger('swin_backbone')


def replace_in(toolkit: str) -> None:
    """Register the class under the toolkit's name, and set it in the packages that configs import from.

    The toolkit is imported first, because it could not register its own class under this name afterwards.
    """
    try:
        backbones = import_module(f'{toolkit}.models.backbones')
    except (ImportError, AssertionError) as error:  # for example incompatible versions
        LOGGER.warning('%s cannot be imported and keeps its %s: %s', toolkit, NAME, error)
        return
    registry = import_module(f'{toolkit}.registry')
    registry.MODELS.register_module(name=NAME, module=MMSwinTransformer, force=True)
    packages: tuple[ModuleType, ...] = (backbones, sys.modules[f'{toolkit}.models'])
    for package in packages:
        if hasattr(package, NAME):
            setattr(package, NAME, MMSwinTransformer)


for name in TOOLKITS:
    if find_spec(name) is not None:
        replace_in(name)
