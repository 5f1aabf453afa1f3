"""Adapters that use backbones in models of other frameworks. Each module imports its framework.

Adapters accept a backbone instance, whose weights can be loaded before.
"""

from typing import Any

from swin_backbone.backbones.swin import SwinTransformer
from swin_backbone.backbones.video import VideoSwinTransformer
from swin_backbone.errors import InputError


def check_backbone(backbone: Any) -> None:
    """Check that an object is an image backbone.

    Raises:
        InputError: if it is not.
    """
    if not isinstance(backbone, SwinTransformer) or isinstance(backbone, VideoSwinTransformer):
        name = backbone.__name__ if isinstance(backbone, type) else type(backbone).__name__
        raise InputError(
            f"expected an image backbone such as SwinTransformer('tiny'), got {name}: build one, and load its weights "
            'with load_pretrained.'
        )
