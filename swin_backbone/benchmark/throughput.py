"""Throughput of the classifiers in the Swin paper's Tables 1 and 8, compared with the paper's on a V100.

The networks have random weights and no final layer, which has 1/3000 of their multiply-adds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch

from swin_backbone import SwinTransformer
from swin_backbone.benchmark import timing
from swin_backbone.benchmark.implementations import forward_step
from swin_backbone.errors import InputError
from swin_backbone.evaluation.tables import markdown_table

HEADER = (
    'network',
    'image',
    'table',
    'images/s, V100 in the paper',
    'images/s',
    'median ms',
    'quartiles ms',
    'relative',
)


@dataclass(frozen=True)
class Network:
    """A row of Table 1 or 8.

    Attributes:
        title: name in the paper.
        size: side of the image in pixels.
        paper: images per second on a V100 in the paper.
        tables: tables of the paper with this row.
        variant: variant of our backbone; empty for other networks.
        window: its window; those for 256 and 320 pixels are not in the paper and chosen to divide the maps.
        timm: name of the network in timm; empty for ours.
    """

    title: str
    size: int
    paper: float
    tables: str
    variant: str = ''
    window: int = 0
    timm: str = ''

    @property
    def name(self) -> str:
        """Name on the command line."""
        return f'{self.title.lower().replace("/", "-")}-{self.size}'


WINDOWS = {224: 7, 256: 8, 320: 10, 384: 12}
TABLE_8 = {
    'tiny': (755.2, 580.9, 342.0, 219.5),
    'small': (436.9, 336.7, 198.2, 127.6),
    'base': (278.1, 208.1, 132.0, 84.7),
}
"""Images per second by variant, at the sizes of :data:`WINDOWS`."""

IN_BOTH = {('tiny', 224), ('small', 224), ('base', 224), ('base', 384)}
OURS = (
    *(
        Network(f'Swin-{name[0].upper()}', size, paper, '1, 8' if (name, size) in IN_BOTH else '8', name, window)
        for name, row in TABLE_8.items()
        for (size, window), paper in zip(WINDOWS.items(), row, strict=True)
    ),
    Network('Swin-L', 384, 42.1, '1', 'large', 12),
)
OTHERS = tuple(
    Network(title, size, paper, '1', timm=timm)
    for title, size, paper, timm in (
        ('RegNetY-4G', 224, 1156.7, 'regnety_040'),
        ('RegNetY-8G', 224, 591.6, 'regnety_080'),
        ('RegNetY-16G', 224, 334.7, 'regnety_160'),
        ('EffNet-B3', 300, 732.1, 'tf_efficientnet_b3'),
        ('EffNet-B4', 380, 349.4, 'tf_efficientnet_b4'),
        ('EffNet-B5', 456, 169.1, 'tf_efficientnet_b5'),
        ('EffNet-B6', 528, 96.9, 'tf_efficientnet_b6'),
        ('EffNet-B7', 600, 55.1, 'tf_efficientnet_b7'),
        ('ViT-B/16', 384, 85.9, 'vit_base_patch16_384'),
        ('ViT-L/16', 384, 27.3, 'vit_large_patch16_384'),
        ('DeiT-S', 224, 940.4, 'deit_small_patch16_224'),
        ('DeiT-B', 224, 292.3, 'deit_base_patch16_224'),
        ('DeiT-B', 384, 85.9, 'deit_base_patch16_384'),
    )
)
NETWORKS = {network.name: network for network in (*OURS, *OTHERS)}
REFERENCE = OURS[0]


def choose(names: Sequence[str] | None) -> list[Network]:
    """Return the networks with the given names, by default ours. The reference is always included.

    Raises:
        InputError: if there is no such network.
    """
    unknown = [name for name in names or () if name not in NETWORKS]
    if unknown:
        raise InputError(f'unknown row {", ".join(unknown)}: use {", ".join(NETWORKS)}.')
    wanted = {REFERENCE.name, *(names or (network.name for network in OURS))}
    return [network for name, network in NETWORKS.items() if name in wanted]


def build(network: Network) -> Any:
    """Build a network with random weights in evaluation mode.

    Raises:
        ImportError: if it needs timm, which is not installed.
    """
    if network.timm:
        return import_module('timm').create_model(network.timm).eval()
    return SwinTransformer(network.variant, window_size=network.window, drop_path_rate=0.0, out_indices=(3,)).eval()


def measure(
    networks: Sequence[Network], batch: int, dtype: torch.dtype, device: str, warm_up: int, rounds: int
) -> tuple[list[timing.Timing], dict[str, str]]:
    """Time every network separately; return the timings, and the reasons for skipped networks."""
    rows: list[timing.Timing] = []
    left_out: dict[str, str] = {}
    for network in networks:
        try:
            model = build(network).to(device)
        except ImportError:
            left_out[network.name] = 'timm is not installed'
            continue
        timed, failed = time_model(network.name, model, network.size, batch, dtype, device, warm_up, rounds)
        rows, left_out = rows + timed, left_out | failed
    return rows, left_out


def time_model(
    name: str, model: Any, size: int, batch: int, dtype: torch.dtype, device: str, warm_up: int, rounds: int
) -> tuple[list[timing.Timing], dict[str, str]]:
    """Time a model on random images of ``size`` pixels; return its timing, or the reason of its failure."""
    x = torch.randn(batch, 3, size, size, device=device)
    steps, failed = timing.runnable({name: forward_step(model, x, dtype)})
    return timing.compare(timing.time_interleaved(steps, device, warm_up, rounds), 'inference'), failed


def as_table(rows: Sequence[timing.Timing], batch: int) -> str:
    """Format the paper's and our images per second as Markdown; 'relative' is to Swin-T at 224 (paper / here)."""
    speeds = {row.name: 1000 * batch / row.median_ms for row in rows}
    cells = []
    for row in rows:
        network, (low, high) = NETWORKS[row.name], row.quartiles_ms
        relative = f'{network.paper / REFERENCE.paper:.2f} / '
        relative += f'{speeds[row.name] / speeds[REFERENCE.name]:.2f}' if REFERENCE.name in speeds else '-'
        image = f'{network.size} x {network.size}'
        times = (f'{row.median_ms:.1f}', f'{low:.1f} to {high:.1f}', relative)
        cells.append((network.title, image, network.tables, network.paper, f'{speeds[row.name]:.1f}', *times))
    return markdown_table(HEADER, cells, left=(0, 1, 2))
