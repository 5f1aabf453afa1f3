"""Whole models in a form that :func:`swin_backbone.export.export_onnx` can write."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from swin_backbone.engine.checkpoints import load_whole
from swin_backbone.engine.config import set_weights
from swin_backbone.errors import InputError


def build_exportable(config: Config, checkpoint: str | Path, backbone_only: bool) -> nn.Module:
    """Build a trained model as a module from an image to tensors: its backbone, or a whole segmenter.

    Args:
        config: of a detector or segmenter; changed in place.
        checkpoint: of the whole model.
        backbone_only: take the backbone, which reads normalised images.

    Raises:
        InputError: the checkpoint is not one of this model, or the model can only be exported without its heads.
    """
    set_weights(config, 'none')
    with DefaultScope.overwrite_default_scope(config.get('default_scope', 'mmdet')):
        model: Any = revert_sync_batchnorm(MODELS.build(config.model))
        load_whole(model, checkpoint)
    return model.backbone.eval() if backbone_only else Segmenter(model.eval())


class Segmenter(nn.Module):
    """A segmenter of MMSegmentation as one graph, with its normalisation of the image.

    Args:
        model: an EncoderDecoder in evaluation mode; its pooling layers are replaced in place.

    Raises:
        InputError: the model is no EncoderDecoder.
    """

    output_names = ('logits', 'labels')
    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        head: Any = getattr(model, 'decode_head', None)
        if head is None or isinstance(head, nn.ModuleList):
            raise InputError(
                f'{type(model).__name__} has no single decode head, and only segmenters are exported as a whole: '
                'add --backbone to export its backbone.'
            )
        preprocessor: Any = model.data_preprocessor
        for name, neutral in (('mean', torch.zeros(3)), ('std', torch.ones(3))):
            self.register_buffer(name, getattr(preprocessor, name, neutral).reshape(1, -1, 1, 1))
        # The toolkits read images as BGR; the graph takes RGB.
        self.flip = not preprocessor.channel_conversion
        self.model = model
        replace_pooling(model)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Segment RGB images ``[B, 3, H, W]`` of values from 0 to 255.

        Returns:
            Logits of the decode head ``[B, classes, h, w]`` in its own resolution, and labels ``[B, H, W]`` of logits
            that are resized to the image, as the toolkit resizes them.
        """
        image = image.flip(1) if self.flip else image
        model: Any = self.model
        logits = model.decode_head(model.extract_feat((image - self.mean) / self.std))
        resized = F.interpolate(
            logits, size=image.shape[2:], mode='bilinear', align_corners=model.decode_head.align_corners
        )
        return logits, resized.argmax(dim=1)


class AdaptivePooling(nn.Module):
    """``nn.AdaptiveAvgPool2d`` as two matrix products, whose weights are computed from the size of the map."""

    def __init__(self, output_size: int | tuple[int, int]) -> None:
        super().__init__()
        self.output_size = (output_size, output_size) if isinstance(output_size, int) else output_size

    def forward(self, x: Tensor) -> Tensor:
        """Average ``[B, C, H, W]`` within the bins of the output, ``[B, C, rows, columns]``."""
        rows, cols = (bin_weights(size, bins, x) for size, bins in zip(x.shape[2:], self.output_size, strict=True))
        return rows @ x @ cols.transpose(0, 1)


def bin_weights(size: int, bins: int, like: Tensor) -> Tensor:
    """The share of every position in the average of every bin, ``[bins, size]``; a bin holds whatever it touches."""
    length = torch.full((), size, dtype=torch.int64, device=like.device)
    index = torch.arange(bins, device=like.device)
    start, end = index * length // bins, ((index + 1) * length + bins - 1) // bins
    position = torch.arange(size, device=like.device)
    inside = (position >= start[:, None]) & (position < end[:, None])
    return inside.to(like.dtype) / (end - start)[:, None].to(like.dtype)


def replace_pooling(module: nn.Module) -> None:
    """Put :class:`AdaptivePooling` in the place of every ``nn.AdaptiveAvgPool2d``."""
    for name, child in module.named_children():
        if isinstance(child, nn.AdaptiveAvgPool2d):
            size: Any = child.output_size
            setattr(module, name, AdaptivePooling(size))
        else:
            replace_pooling(child)
