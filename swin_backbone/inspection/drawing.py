"""Pictures of what a backbone sees: the energy of its stages, and what one pixel attends to."""

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
from swin_backbone.evaluation.gallery import read_image
from swin_backbone.evaluation.style import Theme, new_figure, render
from swin_backbone.inspection.features import AttentionView, attentions_of, feature_energies, to_pixels

HEAT = 'inferno'
PANEL = 3.2
"""Width of a panel in inches."""

MARGIN = 0.5
"""Tokens shown around a window in its close-up, as a share of its larger side."""


def grey(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """A pale version of a picture ``[H, W, 3]`` to lay colours over."""
    return image.mean(axis=2) / 255 * 0.7 + 0.15


def draw_energy(
    image: NDArray[np.uint8], energies: Sequence[NDArray[np.float32]], stages: Sequence[int], theme: Theme
) -> Any:
    """The picture, and the energy of some stages over it, each on its own scale."""
    figure = new_figure(PANEL * (len(stages) + 1), panel_height(image) + 0.4)
    panels = figure.subplots(1, len(stages) + 1, squeeze=False)[0]
    panels[0].imshow(image)
    panels[0].set_title('picture')
    for axes, energy, stage in zip(panels[1:], energies, stages, strict=True):
        axes.imshow(grey(image), cmap='gray', vmin=0, vmax=1)
        shown = axes.imshow(energy, cmap=HEAT, alpha=0.75)
        figure.colorbar(shown, ax=axes, shrink=0.7, label='root mean square')
        axes.set_title(f'stage {stage}')
    for axes in panels:
        axes.set_axis_off()
    return figure


def draw_attention(
    image: NDArray[np.uint8],
    views: Sequence[AttentionView],
    blocks: Sequence[int],
    pixel: tuple[int, int],
    head: int | None,
    theme: Theme,
) -> Any:
    """For each block of a stage: where the window of a pixel lies in the picture, and a close-up of its attention."""
    figure = new_figure(max(2, len(views)) * PANEL, panel_height(image) + PANEL + 0.9)
    figure.set_layout_engine('compressed')
    panels = figure.subplots(2, len(views), squeeze=False, height_ratios=[panel_height(image), PANEL])
    for column, (view, block) in enumerate(zip(views, blocks, strict=True)):
        padded = float(view.padded_share.mean() if head is None else view.padded_share[head])
        kind = 'shifted' if view.shifted else 'plain'
        panels[0, column].set_title(f'block {block}, {kind} windows')
        panels[0, column].imshow(image)
        panels[1, column].imshow(grey(image), cmap='gray', vmin=0, vmax=1)
        weights = view.pixels((image.shape[0], image.shape[1]), head).numpy()
        shown = panels[1, column].imshow(
            np.ma.masked_where(~window_pixels(view, image), weights), cmap=HEAT, alpha=0.75, vmin=0
        )
        figure.colorbar(shown, ax=panels[1, column], shrink=0.7, label='attention weight')
        who = 'mean of heads' if head is None else f'head {head}'
        panels[1, column].set_title(f'{who},\n{padded:.1%} on padding')
        close_up(panels[1, column], view, image)
        for axes in panels[:, column]:
            mark(axes, view, image, pixel)
    return figure


def panel_height(image: NDArray[np.uint8]) -> float:
    """Height in inches of a picture as wide as a panel."""
    return float(np.clip(PANEL * image.shape[0] / image.shape[1], 1.0, 2 * PANEL))


def window_pixels(view: AttentionView, image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The pixels of the tokens that the query can see, ``[H, W]``."""
    return np.asarray(to_pixels(view.window, view.stride, (image.shape[0], image.shape[1])).numpy(), bool)


def bounds(view: AttentionView, image: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """First and last-but-one row and column of the window in pixels: top, bottom, left, right."""
    rows, columns = (np.flatnonzero(window_pixels(view, image).any(axis=axis)) for axis in (1, 0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def close_up(axes: Any, view: AttentionView, image: NDArray[np.uint8]) -> None:
    """Show the window and some of what is around it."""
    top, bottom, left, right = bounds(view, image)
    around = MARGIN * max(bottom - top, right - left)
    axes.set_xlim(max(-0.5, left - around), min(image.shape[1] - 0.5, right + around))
    axes.set_ylim(min(image.shape[0] - 0.5, bottom + around), max(-0.5, top - around))


def mark(axes: Any, view: AttentionView, image: NDArray[np.uint8], pixel: tuple[int, int]) -> None:
    """Outline the window and put a cross on the pixel, white on black so that both stand out anywhere."""
    from matplotlib.patches import Rectangle

    top, bottom, left, right = bounds(view, image)
    corner = (left - 0.5, top - 0.5)
    for colour, width in (('black', 3.0), ('white', 1.2)):
        frame = Rectangle(corner, right - left, bottom - top, fill=False, edgecolor=colour, linewidth=width)
        # At the picture's edge, half of both would be cut off.
        axes.add_patch(frame).set_clip_on(False)
        axes.plot(pixel[1], pixel[0], '+', color=colour, markersize=9, markeredgewidth=width, clip_on=False)
    axes.set_axis_off()


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
