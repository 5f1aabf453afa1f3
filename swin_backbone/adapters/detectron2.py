"""Backbones in Detectron2's models."""

from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from torch import Tensor

from swin_backbone.adapters import check_backbone
from swin_backbone.backbones.swin import SwinTransformer


class SwinBackbone(Backbone):
    """A backbone whose maps are called 'res2' to 'res5', as Detectron2 calls those of its ResNet.

    It takes images of any size: ``size_divisibility`` is 0 and ``padding_constraints`` are empty, as Detectron2's class
    has them. What needs more, such as an FPN above it, states that itself.

    Args:
        backbone: a SwinTransformer or another backbone of images.

    Raises:
        InputError: ``backbone`` is no backbone of images.
    """

    def __init__(self, backbone: SwinTransformer) -> None:
        check_backbone(backbone)
        super().__init__()
        self.backbone = backbone

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of every map by its name."""
        return {
            f'res{info["index"] + 2}': ShapeSpec(channels=info['num_chs'], stride=info['reduction'])
            for info in self.backbone.feature_info
        }

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Compute the maps of images ``[B, 3, H, W]`` by their names."""
        return dict(zip(self.output_shape(), self.backbone(image), strict=True))
