"""Figures of feature energy and window attention over an image."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import MODELS
from numpy.typing import NDArray
from torch import Tensor

from swin_backbone import SwinTransformer, load_pretrained
from swin_backbone.engine.tta import find_resize, innermost
from swin_backbone.errors import InputError
from swin_backbone.evaluation.gallery import read_image
from swin_backbone.evaluation.style import Theme, new_figure, render
from swin_backbone.files import write_bytes
from swin_backbone.inspection.features import AttentionView, attentions_of, feature_energies, to_pixels

HEAT: dict[str, Any] = dict(cmap='inferno', alpha=0.75)
PANEL = 3.2
"""Width of a panel in inches."""

MARGIN = 0.5
"""Margin around a window in a close-up, as a fraction of the longer side of the window."""

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Subject:
    """A backbone and its input image.

    Attributes:
        backbone: backbone with weights.
        image: image at the test size, RGB ``[H, W, 3]``.
        tensor: image normalised and padded as in the config, ``[1, 3, H', W']``.
        scale: columns and rows of ``image`` per pixel of the file.
    """

    backbone: SwinTransformer
    image: Image
    tensor: Tensor
    scale: tuple[float, float]


def build_subject(config: Config, weights: str, path: Path) -> Subject:
    """Build the backbone of a config, load its weights, and read an image at the config's test size.

    Args:
        config: config of a detector or segmenter with :class:`SwinTransformer`.
        weights: any source of :func:`swin_backbone.load_pretrained`, or 'none' for random weights.
        path: the image file.

    Raises:
        InputError: if the config has another backbone, or the weights or the image cannot be read.
    """
    left_out = ('type', '_scope_', 'init_cfg', 'pretrained')
    options = {key: value for key, value in config.model.backbone.items() if key not in left_out}
    backbone = backbone_class(config)(**options)
    if weights != 'none':
        load_pretrained(backbone, weights)
    original = read_image(str(path))
    image = resize(original, find_resize(innermost(config.test_dataloader.dataset).pipeline))
    scale = (image.shape[1] / original.shape[1], image.shape[0] / original.shape[0])
    return Subject(backbone, image, prepare(image, config.model.get('data_preprocessor') or {}), scale)


def backbone_class(config: Config) -> type[SwinTransformer]:
    """Return the class of the backbone of a config.

    Raises:
        InputError: if it is not a class of this package.
    """
    kind = config.model.backbone.type
    with MODELS.switch_scope_and_registry(config.get('default_scope')) as registry:
        found = registry.get(kind) if isinstance(kind, str) else kind
    if not (inspect.isclass(found) and issubclass(found, SwinTransformer)):
        raise InputError(
            f'the config has the backbone {kind}: use a config with swin_backbone.SwinTransformer or '
            'swin_backbone.MMSwinTransformer.'
        )
    return found


def resize(image: Image, step: Any | None) -> Image:
    """Resize an image like a step of the test pipeline."""
    import mmcv

    if step is None or step.get('scale') is None:
        return image
    function = mmcv.imrescale if step.get('keep_ratio') else mmcv.imresize
    return np.asarray(function(image, tuple(step['scale'])), np.uint8)


def prepare(image: Image, preprocessor: Any) -> Tensor:
    """Normalise an RGB image and pad it at the right and bottom, like the ``data_preprocessor`` of a config."""
    tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float()[None]
    if not preprocessor.get('bgr_to_rgb', False):
        tensor = tensor.flip(1)
    mean = torch.tensor(preprocessor.get('mean') or [0.0] * 3).reshape(1, 3, 1, 1)
    std = torch.tensor(preprocessor.get('std') or [1.0] * 3).reshape(1, 3, 1, 1)
    divisor = preprocessor.get('pad_size_divisor', 1)
    padding = (0, -tensor.shape[3] % divisor, 0, -tensor.shape[2] % divisor)
    return F.pad((tensor - mean) / std, padding, value=preprocessor.get('pad_value', 0))


def visualize(
    subject: Subject, out_dir: Path, query: tuple[int, int] | None, stage: int, blocks: Sequence[int], head: int | None
) -> list[Path]:
    """Write ``energy.png`` and, for a query, ``attention.png``.

    Args:
        subject: see :func:`build_subject`.
        out_dir: output folder.
        query: column and row of a pixel of the file, or None.
        stage: the stage whose attention is drawn.
        blocks: indices of its blocks; empty for all.
        head: index of an attention head; None for the mean of all.

    Returns:
        The files written.

    Raises:
        InputError: if there is no such pixel, stage, block or head.
    """
    backbone, image = subject.backbone, subject.image
    stages = len(backbone.layers)
    if query is not None:
        pixel = query_pixel(subject, query)
        if not 0 <= stage < stages:
            raise InputError(f'the backbone has stages 0 to {stages - 1}, there is no stage {stage}.')
    energies = feature_energies(backbone, subject.tensor, range(stages))
    drawings: dict[str, Callable[[Theme], Any]] = {'energy.png': lambda _: draw_energy(image, energies)}
    if query is not None:
        blocks = blocks or range(backbone.options.depths[stage])
        views = attentions_of(backbone, subject.tensor, pixel, stage, blocks)
        if head is not None and not 0 <= head < len(views[0].weights):
            raise InputError(f'stage {stage} has heads 0 to {len(views[0].weights) - 1}, there is no head {head}.')
        by_block = dict(zip(blocks, views, strict=True))
        drawings['attention.png'] = lambda _: draw_attention(image, by_block, pixel, head)
    for name, draw in drawings.items():
        write_bytes(out_dir / name, render(draw, trim=True))
    return [out_dir / name for name in drawings]


def query_pixel(subject: Subject, query: tuple[int, int]) -> tuple[int, int]:
    """Convert column and row of a pixel in the file to row and column in the resized image.

    Raises:
        InputError: if the file has no such pixel.
    """
    height, width = subject.image.shape[:2]
    columns, rows = round(width / subject.scale[0]), round(height / subject.scale[1])
    if not (0 <= query[0] < columns and 0 <= query[1] < rows):
        raise InputError(
            f'the image has columns 0 to {columns - 1} and rows 0 to {rows - 1}, there is no pixel {query}.'
        )
    column, row = (int((value + 0.5) * scale) for value, scale in zip(query, subject.scale, strict=True))
    return row, column


def draw_energy(image: Image, energies: Sequence[Tensor]) -> Any:
    """Draw the image, and the energy of each stage over it, each with its own colour scale."""
    figure = new_figure(PANEL * (len(energies) + 1), panel_height(image) + 0.4)
    first, *panels = figure.subplots(1, len(energies) + 1)
    first.imshow(image)
    first.set_title('image')
    first.set_axis_off()
    for stage, (axes, energy) in enumerate(zip(panels, energies, strict=True)):
        overlay(axes, image, energy[: image.shape[0], : image.shape[1]].numpy(), 'root mean square')
        axes.set_title(f'stage {stage}')
    return figure


def draw_attention(image: Image, views: dict[int, AttentionView], pixel: tuple[int, int], head: int | None) -> Any:
    """Draw the window of a pixel in the image and a close-up of its attention, for each block of a stage."""
    figure = new_figure(max(2, len(views)) * PANEL, panel_height(image) + PANEL + 0.9)
    figure.set_layout_engine('compressed')
    panels = figure.subplots(2, len(views), squeeze=False, height_ratios=[panel_height(image), PANEL])
    size = (image.shape[0], image.shape[1])
    for (block, view), (above, below) in zip(views.items(), panels.T, strict=True):
        above.imshow(image)
        above.set_title(f'block {block}, {"shifted" if view.shifted else "regular"} windows')
        visible = to_pixels(view.window, view.stride, size).numpy()
        weights = np.ma.masked_where(~visible, view.pixels(size, head).numpy())
        overlay(below, image, weights, 'attention weight', vmin=0)
        padded = float(view.padded_share.mean() if head is None else view.padded_share[head])
        below.set_title(f'{"mean of heads" if head is None else f"head {head}"},\n{padded:.1%} on padding')
        rows, columns = (np.flatnonzero(visible.any(axis=axis)) for axis in (1, 0))
        top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        around = MARGIN * max(bottom - top, right - left)
        below.set_xlim(max(-0.5, left - around), min(size[1] - 0.5, right + around))
        below.set_ylim(min(size[0] - 0.5, bottom + around), max(-0.5, top - around))
        for axes in (above, below):
            mark(axes, (left - 0.5, top - 0.5), right - left, bottom - top, pixel)
    return figure


def panel_height(image: Image) -> float:
    """Return the height in inches of an image that is as wide as a panel."""
    return float(np.clip(PANEL * image.shape[0] / image.shape[1], 1.0, 2 * PANEL))


def overlay(axes: Any, image: Image, values: NDArray[np.float32], label: str, **options: Any) -> None:
    """Draw ``values`` ``[H, W]`` with a colour bar over a pale grey version of the image."""
    axes.imshow(image.mean(axis=2) / 255 * 0.7 + 0.15, cmap='gray', vmin=0, vmax=1)
    axes.figure.colorbar(axes.imshow(values, **HEAT, **options), ax=axes, shrink=0.7, label=label)
    axes.set_axis_off()


def mark(axes: Any, corner: tuple[float, float], width: int, height: int, pixel: tuple[int, int]) -> None:
    """Outline the window and mark the pixel with a cross, in white on black for contrast on any background."""
    from matplotlib.patches import Rectangle

    for colour, line in (('black', 3.0), ('white', 1.2)):
        frame = Rectangle(corner, width, height, fill=False, edgecolor=colour, linewidth=line)
        axes.add_patch(frame).set_clip_on(False)  # otherwise half of the line is cut off at the edge of the image
        axes.plot(pixel[1], pixel[0], '+', color=colour, markersize=9, markeredgewidth=line, clip_on=False)
    axes.set_axis_off()
