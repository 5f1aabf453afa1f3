"""Plot of time, memory and multiply-adds of attention over the image area."""

from collections.abc import Callable, Sequence
from typing import Any

from swin_backbone.benchmark.timing import Timing
from swin_backbone.evaluation.style import LIGHT, new_figure, render
from swin_backbone.model_zoo.complexity import attention_in_windows, global_attention
from swin_backbone.variants import DEFAULT_WINDOW, get_variant

FIRST_STRIDE = 4


def image_shape(row: Timing) -> tuple[int, int]:
    """Parse height and width of the image from ``row.part``, 'height x width'."""
    height, width = row.part.split(' x ')
    return int(height), int(width)


def megapixels(row: Timing) -> float:
    """Return the image area in megapixels."""
    height, width = image_shape(row)
    return height * width / 1e6


def attention_costs(shape: tuple[int, int], variant: str, version: int) -> dict[str, float]:
    """Compute 10^9 multiply-adds of all attention of a backbone for one image (Swin paper, equations 1 and 2)."""
    sizes, window = get_variant(variant, version), DEFAULT_WINDOW[version]
    costs = {'global attention (equation 1)': 0.0, f'windows of {window} (equation 2)': 0.0}
    for index, depth in enumerate(sizes.depths):
        height, width = (-(-side // (FIRST_STRIDE * 2**index)) for side in shape)
        channels = sizes.embed_dim * 2**index
        both = global_attention(height, width, channels), attention_in_windows(height, width, channels, window)
        costs = {name: cost + depth * each / 1e9 for (name, cost), each in zip(costs.items(), both, strict=True)}
    return costs


def plot_areas(rows: Sequence[Timing], variant: str, version: int) -> bytes:
    """Plot milliseconds and peak memory of every implementation over the image area, on logarithmic axes, as PNG.

    Another panel shows the multiply-adds of window attention and of global attention by the paper's equations.
    """
    panels: dict[str, Callable[[Timing], float]] = {'ms': lambda row: row.median_ms}
    if all(row.peak_bytes is not None for row in rows):
        panels['peak MiB'] = lambda row: (row.peak_bytes or 0) / 2**20

    def build(_: Any) -> Any:
        figure = new_figure(4.4 * (len(panels) + 1), 3.6)
        *measured, computed = figure.subplots(1, len(panels) + 1, squeeze=False)[0]
        for axes, (unit, value) in zip(measured, panels.items(), strict=True):
            for name in dict.fromkeys(row.name for row in rows):
                chosen = [row for row in rows if row.name == name]
                ours = name.startswith('swin_backbone')
                areas = [megapixels(row) for row in chosen]
                axes.loglog(areas, [value(row) for row in chosen], 'o-', label=name, linewidth=2 if ours else 1)
            axes.set_ylabel(unit)
        shapes = dict.fromkeys(map(image_shape, rows))
        costs = [attention_costs(shape, variant, version) for shape in shapes]
        for name in costs[0]:
            computed.loglog([h * w / 1e6 for h, w in shapes], [cost[name] for cost in costs], 'o-', label=name)
        computed.set_ylabel('10^9 multiply-adds of attention')
        ticks = sorted({round(megapixels(row), 2) for row in rows})
        for axes in (*measured, computed):
            axes.set_xticks(ticks, [f'{tick:g}' for tick in ticks])
            axes.set_xticks([], minor=True)
            axes.set_xlabel('image area in megapixels')
            axes.grid(True, which='both')
            axes.legend(fontsize=7)
        return figure

    return render(build, LIGHT)
