"""Put MMSwinTransformer in the place of the toolkits' SwinTransformer: ``custom_imports=['swin_backbone.replace']``.

Whole configs of MMDetection and MMSegmentation then run with this package's backbone without edits. The toolkits' own
classes stay what they are and can be imported from ``mmdet.models.backbones.swin`` and ``mmseg.models.backbones.swin``.
"""

import logging
import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import swin_backbone.registry  # noqa: F401  serves mmcv's operators, before a toolkit imports them
from swin_backbone.backbones.mm_swin import MMSwinTransformer

TOOLKITS = ('mmdet', 'mmseg')
NAME = 'SwinTransformer'
LOGGER = logging.getLogger('swin_backbone')


def replace_in(toolkit: str) -> None:
    """Register the class under the toolkit's name for its own, and put it into the packages that configs import from.

    The toolkit is imported first: a class that it registered later would not be accepted beside this one.
    """
    try:
        backbones = import_module(f'{toolkit}.models.backbones')
    except (ImportError, AssertionError) as error:  # its versions of other packages do not fit
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
