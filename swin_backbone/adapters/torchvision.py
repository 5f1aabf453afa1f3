"""Adapter for torchvision's detectors."""

from collections.abc import Callable

from torch import Tensor, nn
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, FeaturePyramidNetwork, LastLevelMaxPool

from swin_backbone.adapters import check_backbone
from swin_backbone.backbones.swin import SwinTransformer


class SwinWithFPN(BackboneWithFPN):
    """A backbone with a feature pyramid, for torchvision's detectors.

    The levels have the names of torchvision's own networks: '0', '1', ... from the highest resolution, and 'pool'. With
    four maps, ``MaskRCNN(SwinWithFPN(backbone), num_classes=91)`` needs no other options.

    Args:
        backbone: a SwinTransformer or another image backbone; its frozen parts stay frozen.
        out_channels: channels of every level.
        extra_blocks: block that adds further levels; one level by max-pooling if None.
        norm_layer: norm layer of the pyramid; no norms by default.

    Raises:
        InputError: if ``backbone`` is not an image backbone.
    """

    def __init__(
        self,
        backbone: SwinTransformer,
        out_channels: int = 256,
        extra_blocks: ExtraFPNBlock | None = None,
        norm_layer: Callable[..., nn.Module] | None = None,
    ) -> None:
        check_backbone(backbone)
        nn.Module.__init__(self)  # torchvision's constructor would look for the maps among the children
        self.body = backbone
        self.fpn = FeaturePyramidNetwork(
            backbone.feature_info.channels(), out_channels, extra_blocks or LastLevelMaxPool(), norm_layer
        )
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Compute the levels ``[B, out_channels, h, w]`` of images ``[B, 3, H, W]``."""
        return self.fpn({str(level): features for level, features in enumerate(self.body(x))})
