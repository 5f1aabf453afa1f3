"""Training, testing and prediction with mmengine's Runner. Modules are imported on first use."""

from typing import TYPE_CHECKING, Any

import swin_backbone.mmcv_ops  # noqa: F401  provides mmcv's operators

if TYPE_CHECKING:
    from swin_backbone.engine.predict import Predictor

__all__ = ['Predictor']


def __getattr__(name: str) -> Any:
    if name != 'Predictor':
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from swin_backbone.engine.predict import Predictor

    return Predictor
