"""Table 5: the speed of every attention method per stage and in whole networks, with interleaved timings."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from swin_backbone import SwinTransformer
from swin_backbone.ablations.paper_v1 import METHODS, REFERENCE, VARIANTS, Method
from swin_backbone.attention.window_plan import WindowPlan
from swin_backbone.benchmark import timing
from swin_backbone.benchmark.implementations import forward_step, stage_input
from swin_backbone.errors import InputError

STAGES = 4


@dataclass(frozen=True)
class Protocol:
    """The options of the timings.

    Attributes:
        methods: rows of Table 5, including the reference, the shifted windows.
        variants: networks; the self-attention per stage is timed in the first.
        shape: height and width of the images in pixels.
        batch: number of images per batch.
        dtype: 'float32', or a half-precision type for autocast.
        warm_up: number of untimed rounds.
        rounds: number of timed rounds; each round times every method once, in changing order.
        device: 'cpu' or 'cuda'.
    """

    methods: tuple[Method, ...]
    variants: tuple[str, ...]
    shape: tuple[int, int]
    batch: int
    dtype: str
    warm_up: int
    rounds: int
    device: str

    def text(self) -> str:
        """Describe the protocol."""
        clock = 'synchronizing the GPU before and after each' if self.device == 'cuda' else 'wall clock'
        return (
            f'{self.batch} x 3 x {self.shape[0]} x {self.shape[1]}, {self.dtype}, inference, one process; '
            f'{self.warm_up} rounds of warm-up and {self.rounds} timed ones, all methods in turn in each, {clock}; '
            f'medians and quartiles. Per stage: the self-attention of all its blocks (with projections, without norms '
            f'and MLPs) of Swin {self.variants[0]}. Network: the backbone with its four output norms.'
        )


@dataclass(frozen=True)
class Column:
    """A column of Table 5.

    Attributes:
        title: 'S1' to 'S4' for self-attention in a stage, or a network such as 'Swin-T'.
        index: index of the stage or the network in the paper's numbers.
        network: whether the column is a network.
        timings: our timings by method.
    """

    title: str
    index: int
    network: bool
    timings: dict[str, timing.Timing]

    def paper(self, method: Method) -> float:
        """Return the paper's milliseconds of a stage or images per second of a network."""
        return method.fps[self.index] if self.network else method.stage_ms[self.index]

    def ours(self, method: Method, batch: int) -> float:
        """Return our number in the same unit; NaN if it was not measured."""
        if method.name not in self.timings:
            return math.nan
        median = self.timings[method.name].median_ms
        return 1000 * batch / median if self.network else median

    def ratios(self, method: Method) -> tuple[float, float]:
        """Return the paper's and our time relative to the shifted windows; NaN if it was not measured."""
        reference = next(other for other in METHODS if other.name == REFERENCE)
        paper = self.paper(method) / self.paper(reference)
        ours = self.ours(method, 1) / self.ours(reference, 1)
        return (1 / paper, 1 / ours) if self.network else (paper, ours)


@dataclass
class Speeds:
    """The results of the timings.

    Attributes:
        protocol: options of the timings.
        environment: hardware and software.
        columns: the timings.
        left_out: methods that cannot run on this machine, with the reason.
    """

    protocol: Protocol
    environment: dict[str, Any]
    columns: list[Column] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def make_protocol(
    rows: Sequence[str] | None,
    variants: Sequence[str] | None,
    shape: Sequence[int] | None,
    batch: int | None,
    dtype: str | None,
    warm_up: int | None,
    rounds: int | None,
    demo: bool,
) -> Protocol:
    """Return the protocol with defaults for missing options; on a GPU, those of the original throughput measurement.

    Raises:
        InputError: if a value is out of range.
    """
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    known = {method.name: method for method in METHODS}
    unknown = [name for name in rows or () if name not in known]
    if unknown:
        raise InputError(f'table5 has no row {", ".join(unknown)}: use {", ".join(known)}.')
    if shape is not None and min(shape) < 1:
        raise InputError(f'--shape must be at least 1 1, got {shape[0]} {shape[1]}.')
    if warm_up is not None and warm_up < 0:
        raise InputError(f'--warm-up must be at least 0, got {warm_up}.')
    chosen = {REFERENCE, *(rows or known)}
    defaults = dict(batch=1, warm_up=1, rounds=5) if demo else dict(batch=8, warm_up=2, rounds=9)
    if device == 'cuda':
        defaults = dict(batch=64, warm_up=50, rounds=30)
    return Protocol(
        methods=tuple(method for method in METHODS if method.name in chosen),
        variants=tuple(name for name in VARIANTS if name in (variants or VARIANTS)),
        shape=(shape[0], shape[1]) if shape else (224, 224),
        batch=defaults['batch'] if batch is None else batch,
        dtype=dtype or 'float32',
        warm_up=defaults['warm_up'] if warm_up is None else warm_up,
        rounds=defaults['rounds'] if rounds is None else rounds,
        device=device,
    )


def measure(protocol: Protocol, say: Callable[[str], None]) -> Speeds:
    """Time all methods; ``say`` is called with a line before each column."""
    found = Speeds(protocol, timing.environment(protocol.device))
    for variant in protocol.variants:
        models = build(variant, found)
        if variant == protocol.variants[0]:
            for index in range(STAGES):
                say(f'self-attention of stage {index + 1} of Swin {variant}: {", ".join(models)}')
                x = stage_input(protocol.batch, protocol.shape, variant, 1, index).to(protocol.device)
                stages = {name: SelfAttention(model.layers[index]) for name, model in models.items()}
                timings = time_methods(stages, x, f'stage {index + 1}', found)
                found.columns.append(Column(f'S{index + 1}', index, False, timings))
        say(f'Swin {variant}: {", ".join(models)}')
        image = torch.randn(protocol.batch, 3, *protocol.shape, device=protocol.device)
        timings = time_methods(models, image, variant, found)
        found.columns.append(Column(f'Swin-{variant[0].upper()}', VARIANTS.index(variant), True, timings))
    return found


def build(variant: str, found: Speeds) -> dict[str, Any]:
    """Build a backbone with random weights for every method; record the methods that fail."""
    models: dict[str, Any] = {}
    for method in found.protocol.methods:
        if method.name in found.left_out:
            continue
        try:
            model = SwinTransformer(variant, drop_path_rate=0.0, attention_method=method.name)
        except Exception as error:  # a missing dependency may raise any exception
            found.left_out[method.name] = f'it cannot be built: {error}'
        else:
            models[method.name] = model.to(found.protocol.device).eval()
    return models


class SelfAttention(nn.Module):
    """The self-attention of all blocks of a stage in sequence: 'MSA in a stage'.

    Args:
        stage: the stage with the blocks.
    """

    def __init__(self, stage: Any) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, x: Tensor) -> list[Tensor]:
        """Apply the self-attention to a map ``[B, H, W, C]``."""
        plan = WindowPlan(x.shape[1], x.shape[2], self.stage.window)
        for block in self.stage.blocks:
            x = block.attn(x, plan, block.shifted)
        return [x]


def time_methods(models: dict[str, Any], x: Tensor, part: str, found: Speeds) -> dict[str, timing.Timing]:
    """Time one call of every method; return the timings by name, and record the methods that fail."""
    protocol = found.protocol
    dtype = getattr(torch, protocol.dtype)
    steps, failed = timing.runnable(
        {name: forward_step(model, x, dtype, lambda model, x: model(x)) for name, model in models.items()}
    )
    found.left_out.update(failed)
    times = timing.time_interleaved(steps, protocol.device, protocol.warm_up, protocol.rounds)
    rows = timing.compare(times, part, timing.peak_memory(steps, protocol.device))
    return {row.name: row for row in rows}
