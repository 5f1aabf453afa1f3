"""Speed of implementations against each other: interleaved in one process, on one input, with medians."""

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from swin_backbone import VARIANTS, SwinTransformer
from swin_backbone.errors import InputError

REFERENCE = 'mmdet'
STOCK = ('mmdet', 'mmseg')
OURS = ('eager', 'sdpa')


@dataclass(frozen=True)
class Timing:
    """How long one implementation took.

    Attributes:
        name: the implementation.
        median_ms: median of the timed iterations, in milliseconds.
        quartiles_ms: lower and upper quartile.
        ratio: median of the reference over this median: above 1 is faster than the reference.
    """

    name: str
    median_ms: float
    quartiles_ms: tuple[float, float]
    ratio: float


def build_ours(variant: str, backend: str) -> nn.Module:
    """Our backbone on one backend, without stochastic depth, as the others have it here."""
    return SwinTransformer(variant, backend=backend, drop_path_rate=0.0)


def build_stock(variant: str, toolkit: str) -> nn.Module | None:
    """The backbone of MMDetection or MMSegmentation in the same size, or None where the toolkit is missing."""
    try:
        module = import_module(f'{toolkit}.models.backbones')
    except ImportError:
        return None
    sizes = VARIANTS[variant]
    stock: nn.Module = module.SwinTransformer(
        embed_dims=sizes.embed_dim,
        depths=sizes.depths,
        num_heads=sizes.num_heads,
        window_size=7,
        mlp_ratio=4,
        drop_path_rate=0.0,
        out_indices=(0, 1, 2, 3),
    )
    return stock


def find_backbones(variant: str, against: Sequence[str]) -> dict[str, nn.Module]:
    """Our backends and the other implementations that are asked for and installed.

    Raises:
        InputError: the variant or an implementation is unknown.
    """
    unknown = [name for name in against if name not in STOCK]
    if unknown:
        raise InputError(f'unknown implementation {", ".join(unknown)}: use {", ".join(STOCK)}.')
    if variant not in VARIANTS or 1 not in VARIANTS[variant].versions:
        raise InputError(f'unknown variant {variant!r} of Swin V1: use tiny, small, base or large.')
    found: dict[str, nn.Module | None] = {name: build_stock(variant, name) for name in against}
    found |= {f'swin_backbone ({backend})': build_ours(variant, backend) for backend in OURS}
    return {name: model for name, model in found.items() if model is not None}


def forward_step(model: nn.Module, image: Tensor) -> Callable[[], Any]:
    """One forward pass in evaluation mode."""
    model.eval()  # the stock backbones return None here

    def step() -> None:
        with torch.no_grad():
            model(image)

    return step


def training_step(model: nn.Module, image: Tensor) -> Callable[[], Any]:
    """One forward and backward pass in training mode."""
    model.train()

    def step() -> None:
        model.zero_grad(set_to_none=True)
        torch.stack([out.float().mean() for out in model(image)]).sum().backward()

    return step


def synchronize(device: str) -> None:
    """Wait until the device has done what was asked of it."""
    if device == 'cuda':
        torch.cuda.synchronize()


def time_interleaved(steps: dict[str, Callable[[], Any]], device: str, warm_up: int, rounds: int) -> dict[str, list]:
    """Run all ``steps`` in turn, ``rounds`` times after ``warm_up`` rounds; milliseconds of each.

    Taking turns lets a slow moment of the machine fall on all of them.
    """
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(warm_up + rounds):
        for name, step in steps.items():
            synchronize(device)
            started = time.perf_counter()
            step()
            synchronize(device)
            if number >= warm_up:
                times[name].append(1000 * (time.perf_counter() - started))
    return times


def compare(times: dict[str, list[float]]) -> list[Timing]:
    """Medians, quartiles and ratios against the first implementation measured."""
    reference = statistics.median(next(iter(times.values())))
    rows = []
    for name, values in times.items():
        low, median, high = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
        rows.append(Timing(name, median, (low, high), reference / median))
    return rows


def hardware(device: str) -> str:
    """What the figures were measured on."""
    if device == 'cuda':
        return f'{torch.cuda.get_device_name()}, PyTorch {torch.__version__}'
    return f'{platform.machine()} CPU, {torch.get_num_threads()} threads, PyTorch {torch.__version__}'


def as_table(rows: Sequence[Timing]) -> str:
    """The timings as a Markdown table."""
    lines = ['| implementation | median ms | quartiles ms | times as fast |', '|---|--:|--:|--:|']
    for row in rows:
        low, high = row.quartiles_ms
        lines.append(f'| {row.name} | {row.median_ms:.1f} | {low:.1f} to {high:.1f} | {row.ratio:.2f} |')
    return '\n'.join(lines)
