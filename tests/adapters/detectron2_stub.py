"""A stub of Detectron2 0.6: `Backbone`, and the parts of `FPN` and `ImageList` that use a backbone."""

import math
from abc import ABCMeta, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass
class ShapeSpec:
    channels: int | None = None
    height: int | None = None
    width: int | None = None
    stride: int | None = None


class Backbone(nn.Module, metaclass=ABCMeta):
    @abstractmethod
    def forward(self) -> dict[str, Tensor]: ...

    @property
    def size_divisibility(self) -> int:
        return 0

    @property
    def padding_constraints(self) -> dict[str, int]:
        return {}

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {name: ShapeSpec(self._out_feature_channels[name]) for name in self._out_features}


class FPN(Backbone):
    """A feature pyramid; sides of images must be multiples of its largest stride."""

    def __init__(self, bottom_up: Backbone, in_features: list[str], out_channels: int) -> None:
        super().__init__()
        assert isinstance(bottom_up, Backbone)
        shapes = [bottom_up.output_shape()[name] for name in in_features]
        assert all(b.stride == 2 * a.stride for a, b in pairwise(shapes))
        self.bottom_up, self.in_features = bottom_up, in_features
        self.names = [f'p{int(math.log2(shape.stride))}' for shape in shapes]
        self.strides = [shape.stride for shape in shapes]
        self.lateral = nn.ModuleList(nn.Conv2d(shape.channels, out_channels, 1) for shape in shapes)
        self.output = nn.ModuleList(nn.Conv2d(out_channels, out_channels, 3, padding=1) for _ in shapes)

    @property
    def size_divisibility(self) -> int:
        return self.strides[-1]

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        maps = self.bottom_up(image)
        levels = [conv(maps[name]) for name, conv in zip(self.in_features, self.lateral, strict=True)]
        for index in range(len(levels) - 1, 0, -1):
            levels[index - 1] = levels[index - 1] + F.interpolate(levels[index], scale_factor=2.0)
        return {n: conv(level) for n, conv, level in zip(self.names, self.output, levels, strict=True)}


def pad_batch(images: list[Tensor], backbone: Backbone) -> Tensor:
    """Pad images ``[3, H, W]`` to one size as ``ImageList.from_tensors`` does with the constraints of a backbone."""
    constraints = backbone.padding_constraints
    divisor = max(1, constraints.get('size_divisibility', backbone.size_divisibility))
    sides = [max(image.shape[axis] for image in images) for axis in (1, 2)]
    height, width = (-(-side // divisor) * divisor for side in sides)
    return torch.stack([F.pad(i, (0, width - i.shape[2], 0, height - i.shape[1])) for i in images])


def modules() -> dict[str, Any]:
    """Return the modules that the adapter and its example import from."""
    contents = {
        'detectron2': {},
        'detectron2.layers': dict(ShapeSpec=ShapeSpec),
        'detectron2.modeling': dict(Backbone=Backbone),
        'detectron2.modeling.backbone': dict(FPN=FPN),
    }
    found = {name: ModuleType(name) for name in contents}
    for name, values in contents.items():
        vars(found[name]).update(values)
    return found
