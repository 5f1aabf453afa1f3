"""Whole models as modules that :func:`swin_backbone.export.export_onnx` can export."""

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from swin_backbone.engine.checkpoints import load_whole, read_whole
from swin_backbone.engine.class_names import fit_to_checkpoint
from swin_backbone.engine.config import set_weights
from swin_backbone.engine.exported_input import Normalized
from swin_backbone.errors import InputError


def build_exportable(config: Config, checkpoint: str | Path, part: str) -> nn.Module:
    """Build a trained model as a module that maps an image to tensors.

    Args:
        config: config of a detector or segmenter; changed in place.
        checkpoint: checkpoint of the whole model.
        part: 'model'; 'backbone', which reads normalised images; or 'raw', a detector up to the outputs of its head.

    Raises:
        InputError: if the checkpoint belongs to a different model, or the model cannot be exported in this form.
    """
    set_weights(config, 'none')
    with DefaultScope.overwrite_default_scope(config.get('default_scope', 'mmdet')):
        content = read_whole(checkpoint)
        known = fit_to_checkpoint(config, content)
        model: Any = revert_sync_batchnorm(MODELS.build(config.model)).eval()
        load_whole(model, checkpoint, content)
    if part == 'backbone':
        return model.backbone
    if hasattr(model, 'decode_head'):
        whole: Any = Segmenter(model)
    else:
        # Imported here, because only one of the toolkits may be installed.
        from swin_backbone.engine.exported_detector import Detector, RawDetector

        whole = RawDetector(model) if part == 'raw' else Detector(model)
    whole.metadata = dict(dataset_meta=json.dumps(known)) if known else {}
    return whole


class Segmenter(Normalized):
    """An MMSegmentation segmenter as one graph, including the normalisation of the image.

    Args:
        model: an EncoderDecoder in evaluation mode; its pooling layers are replaced in place.

    Raises:
        InputError: if the model has several decode heads.
    """

    output_names = ('logits', 'labels')

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        if isinstance(model.decode_head, nn.ModuleList):
            raise InputError(
                f'{type(model).__name__} has several decode heads, but only segmenters with one can be exported as a '
                'whole: add --backbone to export only the backbone.'
            )
        replace_pooling(model)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Segment RGB images ``[B, 3, H, W]`` with values from 0 to 255.

        Returns:
            Logits ``[B, classes, h, w]`` at the resolution of the decode head, and labels ``[B, H, W]`` computed from
            logits that are resized to the image like in the toolkit.
        """
        model: Any = self.model
        logits = model.decode_head(model.extract_feat(self.normalise(image)))
        resized = F.interpolate(
            logits, size=image.shape[2:], mode='bilinear', align_corners=model.decode_head.align_corners
        )
        return logits, resized.argmax(dim=1)


class AdaptivePooling(nn.Module):
    """``nn.AdaptiveAvgPool2d`` as two matrix products with weights computed from the size of the map."""

    def __init__(self, output_size: int | tuple[int, int]) -> None:
        super().__init__()
        self.output_size = (output_size, output_size) if isinstance(output_size, int) else output_size

    def forward(self, x: Tensor) -> Tensor:
        """Average ``[B, C, H, W]`` over the bins of the output ``[B, C, rows, columns]``."""
        rows, cols = (bin_weights(size, bins, x) for size, bins in zip(x.shape[2:], self.output_size, strict=True))
        return rows @ x @ cols.transpose(0, 1)


def bin_weights(size: int, bins: int, like: Tensor) -> Tensor:
    """Return the weight of each position in the average of each bin, ``[bins, size]``; bins may overlap."""
    length = torch.full((), size, dtype=torch.int64, device=like.device)
    index = torch.arange(bins, device=like.device)
    start, end = index * length // bins, ((index + 1) * length + bins - 1) // bins
    position = torch.arange(size, device=like.device)
    inside = (position >= start[:, None]) & (position < end[:, None])
    return inside.to(like.dtype) / (end - start)[:, None].to(like.dtype)


def replace_pooling(module: nn.Module) -> None:
    """Replace every ``nn.AdaptiveAvgPool2d`` by :class:`AdaptivePooling`, in place."""
    for name, child in module.named_children():
        if isinstance(child, nn.AdaptiveAvgPool2d):
            size: Any = child.output_size
            setattr(module, name, AdaptivePooling(size))
        else:
            replace_pooling(child)
