"""From a config, weights and a picture to pictures of the backbone's inside."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from numpy.typing import NDArray
from torch import Tensor

from swin_backbone import SwinTransformer, load_pretrained
from swin_backbone.engine.tta import find_resize, innermost
from swin_backbone.errors import InputError
from swin_backbone.inspection import attentions_of, feature_energies
from swin_backbone.reports.gallery import read_image
from swin_backbone.reports.inside import draw_attention, draw_energy
from swin_backbone.reports.style import render

BACKBONE = 'swin_backbone.SwinTransformer'


@dataclass(frozen=True)
class Subject:
    """A backbone and a picture as a model would see it.

    Attributes:
        backbone: with its weights.
        image: at the test size, RGB ``[H, W, 3]``.
        tensor: the same, normalised and padded as the config says ``[1, 3, H', W']``.
        scale: columns and rows of ``image`` a pixel of the file.
    """

    backbone: SwinTransformer
    image: NDArray[np.uint8]
    tensor: Tensor
    scale: tuple[float, float]


def build_subject(config: Config, weights: str, path: Path) -> Subject:
    """Build the backbone of a config, load its weights, and read a picture at the config's test size.

    Args:
        config: of a detector or segmenter on :class:`SwinTransformer`.
        weights: any source of :func:`swin_backbone.load_pretrained`, or 'none' for random weights.
        path: the picture.

    Raises:
        InputError: the backbone is another, or weights or picture cannot be read.
    """
    options = dict(config.model.backbone)
    if options.pop('type') != BACKBONE:
        raise InputError(f'the config has the backbone {config.model.backbone.type}: choose one with {BACKBONE}.')
    options.pop('init_cfg', None)
    backbone = SwinTransformer(**options)
    if weights != 'none':
        load_pretrained(backbone, weights)
    original = read_image(str(path))
    image = resize(original, find_resize(innermost(config.test_dataloader.dataset).pipeline))
    scale = (image.shape[1] / original.shape[1], image.shape[0] / original.shape[0])
    return Subject(backbone, image, prepare(image, config.model.get('data_preprocessor') or {}), scale)


def resize(image: NDArray[np.uint8], step: Any | None) -> NDArray[np.uint8]:
    """A picture at the size of the test pipeline's resize."""
    import mmcv

    if step is None or step.get('scale') is None:
        return image
    function = mmcv.imrescale if step.get('keep_ratio') else mmcv.imresize
    return np.asarray(function(image, tuple(step['scale'])), np.uint8)


def prepare(image: NDArray[np.uint8], preprocessor: Any) -> Tensor:
    """Normalise an RGB picture and pad it at the right and bottom, as a config's preprocessor does."""
    tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float()[None]
    if not preprocessor.get('bgr_to_rgb', False):
        tensor = tensor.flip(1)
    mean, std = (
        torch.tensor(preprocessor.get(name) or [default] * 3).reshape(1, 3, 1, 1)
        for name, default in (('mean', 0.0), ('std', 1.0))
    )
    divisor = preprocessor.get('pad_size_divisor', 1)
    bottom, right = -tensor.shape[2] % divisor, -tensor.shape[3] % divisor
    return F.pad((tensor - mean) / std, (0, right, 0, bottom), value=preprocessor.get('pad_value', 0))


def visualize(
    subject: Subject, out_dir: Path, query: tuple[int, int] | None, stage: int, blocks: Sequence[int], head: int | None
) -> list[Path]:
    """Write ``energy.png`` and, for a query, ``attention.png``.

    Args:
        subject: see :func:`build_subject`.
        out_dir: where to.
        query: column and row of a pixel of the file, or None.
        stage: whose attention.
        blocks: which of its blocks; none for all.
        head: which attention head; the mean of all if None.

    Raises:
        InputError: there is no such pixel, stage, block or head.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    backbone, image = subject.backbone, subject.image
    stages = range(len(backbone.layers))
    height, width = image.shape[:2]
    energies = [energy[:height, :width].numpy() for energy in feature_energies(backbone, subject.tensor, stages)]
    written = [out_dir / 'energy.png']
    written[0].write_bytes(render(partial(draw_energy, image, energies, stages), trim=True))
    if query is not None:
        pixel = query_pixel(subject, query)
        if stage not in stages:
            raise InputError(f'the backbone has stages 0 to {stages[-1]}, there is no stage {stage}.')
        chosen = list(blocks) or list(range(backbone.options.depths[stage]))
        views = attentions_of(backbone, subject.tensor, pixel, stage, chosen)
        if head is not None and not 0 <= head < len(views[0].weights):
            raise InputError(f'stage {stage} has heads 0 to {len(views[0].weights) - 1}, there is no head {head}.')
        written.append(out_dir / 'attention.png')
        written[1].write_bytes(render(partial(draw_attention, image, views, chosen, pixel, head), trim=True))
    return written


def query_pixel(subject: Subject, query: tuple[int, int]) -> tuple[int, int]:
    """Row and column at the test size of a pixel of the file, given as column and row."""
    column, row = (int((value + 0.5) * scale) for value, scale in zip(query, subject.scale, strict=True))
    height, width = subject.image.shape[:2]
    if not (0 <= column < width and 0 <= row < height) or min(query) < 0:
        columns, rows = round(width / subject.scale[0]), round(height / subject.scale[1])
        raise InputError(
            f'the picture has columns 0 to {columns - 1} and rows 0 to {rows - 1}, there is no pixel {query}.'
        )
    return row, column
