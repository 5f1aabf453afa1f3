"""Backbones in torchvision's detectors."""

from collections.abc import Callable

from torch import Tensor, nn
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, FeaturePyramidNetwork, LastLevelMaxPool

from swin_backbone.adapters import check_backbone
from swin_backbone.backbones.swin import SwinTransformer


class SwinWithFPN(BackboneWithFPN):
    """A feature pyramid over the maps of a backbone, as torchvision's detectors take it.

    The levels are called '0', '1', ... from the highest resolution on, and 'pool', as torchvision calls those of its
    own networks. With four maps, ``MaskRCNN(SwinWithFPN(backbone), num_classes=91)`` needs no more than this.

    Args:
        backbone: a SwinTransformer or another backbone of images; what is frozen in it stays frozen.
        out_channels: channels of every level.
        extra_blocks: what adds further levels; one by max-pooling if None.
        norm_layer: norms of the pyramid; none by default.

    Raises:
        InputError: ``backbone`` is no backbone of images.
    """

    def __init__(
        self,
        backbone: SwinTransformer,
        out_channels: int = 256,
        extra_blocks: ExtraFPNBlock | None = None,
        norm_layer: Callable[..., nn.Module] | None = None,
    ) -> None:
        check_backbone(backbone)
        nn.Module.__init__(self)  # torchvision's would look for the maps among the children of a network
        self.body = backbone
        self.fpn = FeaturePyramidNetwork(
            backbone.feature_info.channels(), out_channels, extra_blocks or LastLevelMaxPool(), norm_layer
        )
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Compute the levels ``[B, out_channels, h, w]`` of images ``[B, 3, H, W]``."""
        return self.fpn({str(level): features for level, features in enumerate(self.body(x))})
