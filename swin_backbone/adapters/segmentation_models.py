"""Adapter for segmentation_models_pytorch: backbones as encoders."""

from typing import NoReturn

from segmentation_models_pytorch.encoders import encoders
from segmentation_models_pytorch.encoders._base import EncoderMixin
from torch import Tensor, nn

from swin_backbone.adapters import check_backbone
from swin_backbone.backbones.swin import SwinTransformer
from swin_backbone.errors import InputError


class SwinEncoder(nn.Module, EncoderMixin):
    """An encoder that returns the image, then one map for each stride 2, 4, ... up to the backbone's last one.

    Maps of strides that the backbone does not have are empty (0 channels), as for the library's own transformers.

    Args:
        backbone: a SwinTransformer or another image backbone.
        depth: ``encoder_depth`` of the model, the number of strides.
        output_stride: stride of the last map; the library sets it to 32, unless a decoder requires dilation.

    Raises:
        InputError: if the strides of the backbone do not match ``depth``.
    """

    def __init__(self, backbone: SwinTransformer, depth: int = 5, output_stride: int = 32) -> None:
        super().__init__()
        channels = dict(zip(backbone.feature_info.reduction(), backbone.feature_info.channels(), strict=True))
        self.strides = tuple(2**level for level in range(1, depth + 1))
        if not set(channels) <= set(self.strides) or self.strides[-1] not in channels:
            raise InputError(
                f'encoder_depth={depth} needs maps of strides up to {self.strides[-1]}, in powers of two, but the '
                f'backbone returns strides {", ".join(map(str, channels))}: change encoder_depth, or out_indices of '
                'the backbone.'
            )
        self.backbone = backbone
        self._depth = depth
        self._in_channels = backbone.options.in_channels
        self._out_channels = [self._in_channels, *(channels.get(stride, 0) for stride in self.strides)]
        self._output_stride = output_stride

    def set_in_channels(self, in_channels: int, pretrained: bool = True) -> None:
        """Check that the number of channels is that of the backbone.

        Raises:
            InputError: if it is not.
        """
        if in_channels != self._in_channels:
            raise InputError(
                f'the model expects images of {in_channels} channels, but its backbone {self._in_channels}: build the '
                f'backbone with in_channels={in_channels}.'
            )

    def make_dilated(self, output_stride: int) -> NoReturn:
        """Raise an error, because patch merging cannot be dilated.

        Raises:
            InputError: always.
        """
        raise InputError(
            f'this decoder needs a last map of stride {output_stride} by dilated convolutions, which Swin Transformer '
            'does not support: choose another decoder, such as Unet, FPN or UPerNet.'
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the images ``[B, in_channels, H, W]`` and their maps."""
        maps = dict(zip(self.backbone.feature_info.reduction(), self.backbone(x), strict=True))
        sides = {stride: (-(-x.shape[2] // stride), -(-x.shape[3] // stride)) for stride in self.strides}
        return [x, *(maps.get(s, x.new_empty(x.shape[0], 0, *sides[s])) for s in self.strides)]


def register_encoder(backbone: SwinTransformer, name: str = 'swin_backbone') -> str:
    """Register a backbone as an encoder of the library; every model that is built gets a copy of it.

    Args:
        backbone: a SwinTransformer or another image backbone, with the initial weights of the models.
        name: name of the encoder in this process. Registering another backbone under this name replaces the first.

    Returns:
        The name, for ``encoder_name``; also set ``encoder_weights=None``.

    Raises:
        InputError: if ``backbone`` is not an image backbone, or the library has an encoder of this name.
    """
    check_backbone(backbone)
    if name in encoders and encoders[name]['encoder'] is not SwinEncoder:
        raise InputError(f'segmentation_models_pytorch has its own encoder {name!r}: choose another name.')
    encoders[name] = dict(encoder=SwinEncoder, pretrained_settings={}, params=dict(backbone=backbone))
    return name
