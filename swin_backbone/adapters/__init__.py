"""Backbones in the place of other frameworks' own: a module per framework, which imports it.

Every adapter takes a backbone that is built, so that its weights are loaded before.
"""

from typing import Any

from swin_backbone.backbones.swin import SwinTransformer
from swin_backbone.backbones.video import VideoSwinTransformer
from swin_backbone.errors import InputError


def check_backbone(backbone: Any) -> None:
    """Refuse what does not return maps of images.

    Raises:
        InputError: it is no backbone of images.
    """
    if not isinstance(backbone, SwinTransformer) or isinstance(backbone, VideoSwinTransformer):
        name = backbone.__name__ if isinstance(backbone, type) else type(backbone).__name__
        raise InputError(
            f"expected a backbone of images such as SwinTransformer('tiny'), got {name}: build one, and load its "
            'weights with load_pretrained.'
        )
