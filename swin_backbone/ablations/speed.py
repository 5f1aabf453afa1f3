"""Table 5: the speed of every method of self-attention, per stage and in whole networks, in turns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from swin_backbone import SwinTransformer
from swin_backbone.ablations.paper import METHODS, REFERENCE, VARIANTS, Method
from swin_backbone.attention.plan import WindowPlan
from swin_backbone.benchmark import timing as speed
from swin_backbone.benchmark.rivals import forward_step, stage_input
from swin_backbone.errors import InputError

STAGES = 4


@dataclass(frozen=True)
class Protocol:
    """What is timed, and how.

    Attributes:
        methods: rows of Table 5; the shifted windows are always among them, as the reference.
        variants: networks; self-attention is timed in the first.
        shape: height and width of the pictures in pixels.
        batch: pictures.
        dtype: 'float32', or half precision by autocast.
        warm_up: rounds before the timed ones.
        rounds: timed rounds; in each every method has its turn, another one begins each time.
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
        """The protocol in words."""
        clock = 'waiting for the GPU before and after each' if self.device == 'cuda' else 'wall clock'
        return (
            f'{self.batch} x 3 x {self.shape[0]} x {self.shape[1]}, {self.dtype}, inference, one process; '
            f'{self.warm_up} rounds of warm-up and {self.rounds} timed ones, all methods in turn in each, {clock}; '
            f'medians and quartiles. Per stage: the self-attention of all its blocks (projections included; norms and '
            f'MLPs not) of Swin {self.variants[0]}. Network: the backbone with its four output norms.'
        )


@dataclass
class Speeds:
    """What was measured.

    Attributes:
        protocol: how.
        facts: the machine and its software.
        stages: for each stage, timings by method.
        networks: for each variant, timings by method.
        left_out: methods that do not run here, with the reason.
    """

    protocol: Protocol
    facts: dict[str, Any]
    stages: list[dict[str, speed.Timing]] = field(default_factory=list)
    networks: dict[str, dict[str, speed.Timing]] = field(default_factory=dict)
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
    """Complete what the user has said; on a GPU as the original code measures its throughput.

    Raises:
        InputError: a value makes no sense.
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
    usual = dict(batch=1, warm_up=1, rounds=5) if demo else dict(batch=8, warm_up=2, rounds=9)
    if device == 'cuda':
        usual = dict(batch=64, warm_up=50, rounds=30)
    return Protocol(
        methods=tuple(method for method in METHODS if method.name in chosen),
        variants=tuple(name for name in VARIANTS if name in (variants or VARIANTS)),
        shape=(shape[0], shape[1]) if shape else (224, 224),
        batch=usual['batch'] if batch is None else batch,
        dtype=dtype or 'float32',
        warm_up=usual['warm_up'] if warm_up is None else warm_up,
        rounds=usual['rounds'] if rounds is None else rounds,
        device=device,
    )


def measure(protocol: Protocol, say: Callable[[str], None]) -> Speeds:
    """Time everything; ``say`` hears what comes next."""
    found = Speeds(protocol, speed.environment(protocol.device))
    for variant in protocol.variants:
        models = build(variant, found)
        if variant == protocol.variants[0]:
            for index in range(STAGES):
                say(f'self-attention of stage {index + 1} of Swin {variant}: {", ".join(models)}')
                x = stage_input(protocol.batch, protocol.shape, variant, 1, index).to(protocol.device)
                parts = {name: SelfAttention(model.layers[index]) for name, model in models.items()}
                found.stages.append(time_methods(parts, x, f'stage {index + 1}', found))
        say(f'Swin {variant}: {", ".join(models)}')
        image = torch.randn(protocol.batch, 3, *protocol.shape, device=protocol.device)
        found.networks[variant] = time_methods(models, image, variant, found)
    return found


def build(variant: str, found: Speeds) -> dict[str, Any]:
    """A backbone for every method, with random weights."""
    models: dict[str, Any] = {}
    for method in found.protocol.methods:
        if method.name in found.left_out:
            continue
        try:
            model = SwinTransformer(variant, drop_path_rate=0.0, attention_method=method.name)
        except Exception as error:  # what a method needs may be missing in any way
            found.left_out[method.name] = f'it cannot be built: {error}'
        else:
            models[method.name] = model.to(found.protocol.device).eval()
    return models


class SelfAttention(nn.Module):
    """The self-attention of all blocks of a stage, one after the other: 'MSA in a stage'.

    Args:
        stage: whose blocks are used.
    """

    def __init__(self, stage: Any) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, x: Tensor) -> list[Tensor]:
        """Run them on ``[B, H, W, C]``."""
        plan = WindowPlan(x.shape[1], x.shape[2], self.stage.window)
        for block in self.stage.blocks:
            x = block.attn(x, plan, block.shifted)
        return [x]


def time_methods(models: dict[str, Any], x: Tensor, part: str, found: Speeds) -> dict[str, speed.Timing]:
    """Time one call of every method that can do it, by the method's name."""
    protocol = found.protocol
    dtype = getattr(torch, protocol.dtype)
    steps, failed = speed.runnable({name: forward_step(model, x, dtype, call) for name, model in models.items()})
    found.left_out.update(failed)
    times = speed.time_interleaved(steps, protocol.device, protocol.warm_up, protocol.rounds)
    rows = speed.compare(times, part, speed.peak_memory(steps, protocol.device))
    return {row.name: row for row in rows}


def call(model: Any, x: Tensor) -> Any:
    """One forward pass."""
    return model(x)


def slowness(timings: dict[str, speed.Timing], name: str) -> float:
    """How many times as long as the shifted windows a method takes; not a number if it was not measured."""
    if name not in timings or REFERENCE not in timings:
        return float('nan')
    return timings[name].median_ms / timings[REFERENCE].median_ms


def printed_slowness(method: Method, index: int, network: bool) -> float:
    """The same from the paper's Table 5, of a stage or of a network (by its number)."""
    reference = next(other for other in METHODS if other.name == REFERENCE)
    if network:
        return reference.fps[index] / method.fps[index]
    return method.stage_ms[index] / reference.stage_ms[index]


def images_per_second(timing: speed.Timing, batch: int) -> float:
    """Throughput of a network."""
    return 1000 * batch / timing.median_ms
