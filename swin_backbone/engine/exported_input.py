"""Input normalisation as part of an exported model."""

from typing import Any

import torch
from torch import Tensor, nn


class Normalized(nn.Module):
    """A toolkit model that reads RGB images with values from 0 to 255.

    Args:
        model: a detector or segmenter in evaluation mode, with its data preprocessor.
    """

    reads_pixels = True
    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        preprocessor: Any = model.data_preprocessor
        for name, neutral in (('mean', torch.zeros(3)), ('std', torch.ones(3))):
            self.register_buffer(name, getattr(preprocessor, name, neutral).reshape(1, -1, 1, 1))
        # The toolkits load images as BGR. The flag for converting them to RGB has a different name in MMSegmentation
        # than in mmengine.
        self.flip = not any(
            getattr(preprocessor, name, False) for name in ('channel_conversion', '_channel_conversion')
        )
        self.model = model

    def normalise(self, image: Tensor) -> Tensor:
        """Convert an image to the channel order and normalisation that the backbone was trained with."""
        return ((image.flip(1) if self.flip else image) - self.mean) / self.std
