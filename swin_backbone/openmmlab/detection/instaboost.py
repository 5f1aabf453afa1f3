"""InstaBoost, with a clear answer where its package is missing."""

from importlib.util import find_spec
from typing import Any

from mmdet.datasets.transforms import InstaBoost as StockInstaBoost
from pycocotools import mask as coco_mask

from swin_backbone.datasets.generated import mask_to_rle
from swin_backbone.errors import InputError
from swin_backbone.registry import TRANSFORMS

PACKAGE = 'instaboostfast'


@TRANSFORMS.register_module()
class InstaBoost(StockInstaBoost):
    """MMDetection's InstaBoost (Fang et al., ICCV 2019): objects are moved about before masks are loaded.

    The arguments are MMDetection's; their defaults are the published ones. Masks are handed to the package as plain run
    lengths: it cannot read compressed ones, and fails on outlines of several parts with numpy 1.24 and newer.

    Raises:
        InputError: the package that does the work is not installed, or ``hflag`` asks for flips, which it forgets for
            run lengths.
    """

    def __init__(self, **options: Any) -> None:
        if find_spec(PACKAGE) is None:
            raise InputError(
                f'InstaBoost needs the package {PACKAGE}, which is not installed: run "pip install {PACKAGE}", or use '
                'a config without it (configs/detection/htc_plain_*_6x.py).'
            )
        if options.get('hflag'):
            raise InputError('InstaBoost cannot flip objects (hflag): leave it out; RandomFlip flips whole images.')
        super().__init__(**options)

    def _load_anns(self, results: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The objects in the package's form, and those that stay where they are."""
        objects, ignored = super()._load_anns(results)
        for annotation in objects:
            mask = annotation['segmentation']
            if isinstance(mask, list):
                mask = coco_mask.merge(coco_mask.frPyObjects(mask, *results['img'].shape[:2]))
            if not isinstance(mask['counts'], list):
                mask = mask_to_rle(coco_mask.decode(mask).astype(bool))
            annotation['segmentation'] = mask
        return objects, ignored
