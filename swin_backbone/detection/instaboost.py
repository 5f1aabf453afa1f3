"""InstaBoost, with a clear answer where its package is missing."""

from importlib.util import find_spec
from typing import Any

from mmdet.datasets.transforms import InstaBoost as StockInstaBoost

from swin_backbone.errors import InputError
from swin_backbone.registry import TRANSFORMS

PACKAGE = 'instaboostfast'


@TRANSFORMS.register_module()
class InstaBoost(StockInstaBoost):
    """MMDetection's InstaBoost (Fang et al., ICCV 2019): objects are moved about before masks are loaded.

    The arguments are MMDetection's; their defaults are the published ones.

    Raises:
        InputError: the package that does the work is not installed.
    """

    def __init__(self, **options: Any) -> None:
        if find_spec(PACKAGE) is None:
            raise InputError(
                f'InstaBoost needs the package {PACKAGE}, which is not installed: run "pip install {PACKAGE}", or use '
                'a config without it (configs/detection/htc_plain_*_6x.py).'
            )
        super().__init__(**options)
