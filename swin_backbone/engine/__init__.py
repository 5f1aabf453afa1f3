"""Glue to mmengine's Runner. Nothing is imported here, so that single modules stay cheap to use."""

from typing import TYPE_CHECKING, Any

import swin_backbone.mmcv_ops  # noqa: F401  serves mmcv's operators

if TYPE_CHECKING:
    from swin_backbone.engine.predict import Predictor

__all__ = ['Predictor']


def __getattr__(name: str) -> Any:
    if name != 'Predictor':
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from swin_backbone.engine.predict import Predictor

    return Predictor
