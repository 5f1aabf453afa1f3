"""Pictures of what a backbone sees: the energy of its stages, and what one pixel attends to."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swin_backbone.inspection import AttentionView, to_pixels
from swin_backbone.reports.style import Theme, new_figure

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
