"""InstaBoost, with a clear error if its package is missing."""

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
    """MMDetection's InstaBoost (Fang et al., ICCV 2019), which moves objects before masks are loaded.

    The arguments are MMDetection's, with the published defaults. Masks are passed to the package as uncompressed RLE:
    it cannot read compressed RLE, and fails on polygons of several parts with numpy 1.24 and newer.

    Raises:
        InputError: if the package is not installed, or ``hflag`` is set, because the package does not flip RLE masks.
    """

    def __init__(self, **options: Any) -> None:
        if find_spec(PACKAGE) is None:
            raise InputError(
                f'InstaBoost needs the package {PACKAGE}, which is not installed: run "pip install {PACKAGE}", or use '
                'a config without it (configs/detection/htc_plain_*_6x.py).'
            )
        if options.get('hflag'):
            raise InputError('InstaBoost cannot flip objects: leave hflag out; RandomFlip flips whole images.')
        super().__init__(**options)

    def _load_anns(self, results: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return the objects in the format of the package, and those that are not moved."""
        objects, ignored = super()._load_anns(results)
        for annotation in objects:
            mask = annotation['segmentation']
            if isinstance(mask, list):
                mask = coco_mask.merge(coco_mask.frPyObjects(mask, *results['img'].shape[:2]))
            if not isinstance(mask['counts'], list):
                mask = mask_to_rle(coco_mask.decode(mask).astype(bool))
            annotation['segmentation'] = mask
        return objects, ignored
