"""Adapter for Detectron2's models."""

from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from torch import Tensor

from swin_backbone.adapters import check_backbone
from swin_backbone.backbones.swin import SwinTransformer


class SwinBackbone(Backbone):
    """A backbone whose maps are named 'res2' to 'res5', like those of Detectron2's ResNet.

    It supports images of any size: ``size_divisibility`` is 0 and ``padding_constraints`` are empty, the defaults of
    Detectron2's class. Modules with other constraints, such as an FPN, define them.

    Args:
        backbone: a SwinTransformer or another image backbone.

    Raises:
        InputError: if ``backbone`` is not an image backbone.
    """

    def __init__(self, backbone: SwinTransformer) -> None:
        check_backbone(backbone)
        super().__init__()
        self.backbone = backbone

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Return channels and stride of every map by name."""
        return {
            f'res{info["index"] + 2}': ShapeSpec(channels=info['num_chs'], stride=info['reduction'])
            for info in self.backbone.feature_info
        }

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Compute the maps of images ``[B, 3, H, W]`` by name."""
        return dict(zip(self.output_shape(), self.backbone(image), strict=True))
