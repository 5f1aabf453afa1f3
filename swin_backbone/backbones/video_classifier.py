"""Video classifier: Video Swin Transformer with the classification head of its released networks."""

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from swin_backbone.backbones.video import VideoSwinTransformer
from swin_backbone.checkpoint.convert import flatten
from swin_backbone.checkpoint.load import load_pretrained
from swin_backbone.checkpoint.report import LoadReport
from swin_backbone.errors import InputError

HEADS = ('cls_head.fc_cls.', 'head.')
"""Prefixes of the last layer: in the original code and mmaction2, and in torchvision."""


class ClipClassifier(nn.Module):
    """The mean of the last map over time and space, dropout, and a linear layer.

    Args:
        backbone: backbone, whose last map is classified.
        num_classes: number of classes.
        dropout: probability of dropping a feature before the linear layer.
    """

    def __init__(self, backbone: VideoSwinTransformer, num_classes: int = 400, dropout: float = 0.5) -> None:
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(backbone.num_features[-1], num_classes)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, clip: Tensor) -> Tensor:
        """Compute logits ``[B, num_classes]`` of a clip ``[B, in_channels, T, H, W]``."""
        return self.head(self.dropout(self.backbone(clip)[-1].mean(dim=(2, 3, 4))))

    def load(self, source: str | os.PathLike[str] | Mapping[str, Any]) -> LoadReport:
        """Load the backbone and the head of a released classifier.

        Args:
            source: a checkpoint of the original code, mmaction2 or torchvision; see
                :func:`swin_backbone.load_pretrained`.

        Raises:
            InputError: if the checkpoint cannot be loaded, or its head is absent or of another size. The classifier
                does not change then.
        """
        if not isinstance(source, Mapping):
            from swin_backbone.checkpoint.find import find_file
            from swin_backbone.checkpoint.read import read_checkpoint

            source = read_checkpoint(find_file(source))
        found = {}
        for name, value in flatten(source).items():
            for start in HEADS:
                stem, here, kind = name.rpartition(start)
                if here and kind in ('weight', 'bias') and (not stem or stem.endswith('.')):
                    found[kind] = value
        shapes = {kind: value.shape for kind, value in found.items()}
        wanted = {kind: value.shape for kind, value in self.head.named_parameters()}
        if shapes != wanted:
            held = f'a head of {len(found["bias"])} classes' if found.keys() == wanted.keys() else 'no complete head'
            classes, channels = wanted['weight']
            raise InputError(f'the file has {held}, this classifier has {classes} classes and {channels} features.')
        report = load_pretrained(self.backbone, source)
        with torch.no_grad():
            for kind, parameter in self.head.named_parameters():
                parameter.copy_(found[kind])
        return report
