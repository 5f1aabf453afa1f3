"""The rows of ``benchmark gpu``: peak rates of the GPU, the Triton kernels, and whole backbones."""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from swin_backbone import SwinTransformer
from swin_backbone.attention.kernels import window_attention
from swin_backbone.attention.window_plan import WindowPlan
from swin_backbone.benchmark import implementations, timing
from swin_backbone.variants import DEFAULT_WINDOW, get_variant

DEVICE = 'cuda'
CEILINGS = 'Ceilings'
CORRECT = 'Correctness: errors against float64, as a fraction of the norm'
ATTENTION = 'Window attention, sizes of the tiny network at 8 x 800 x 1216, bfloat16'
BACKBONE = 'Whole backbone, bfloat16 autocast'

LIMITS = {torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}
"""Largest error of a correct kernel."""

WARM_UP, MAX_ROUNDS, MAX_SECONDS = 3, 25, 1.5
CACHE_BYTES = 2**30
"""Bytes written before each round of a kernel, to evict its inputs from the GPU's cache and hide the launch time."""

COPIED = 2**30
PRODUCT = 8192
SMALL_MAP = (25, 38)
BATCHES = {(8, (800, 1216)): 0, (32, (224, 224)): 1, (1, (800, 1216)): 3}
NETWORKS = {('tiny', 1): 0, ('tiny', 2): 3, ('base', 1): 3}
OURS, SDPA = 'swin_backbone (triton)', 'swin_backbone (sdpa)'
BACKENDS = {OURS: 'triton', SDPA: 'sdpa'}
IMPLEMENTATIONS = {OURS: 0, SDPA: 0, 'timm': 1, 'torchvision': 2, 'transformers': 2}
"""Measured batches, networks and implementations, with their ranks; the rank of a row is the sum of these."""


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        table: title of its table.
        labels: first cells of the row, which name what is measured.
        rank: priority; lower ranks are measured earlier.
        seconds: approximate duration; the row is skipped if less time remains.
        measure: returns the other cells by column.
    """

    table: str
    labels: dict[str, Any]
    rank: int
    seconds: float
    measure: Callable[[], dict[str, Any]]

    @property
    def name(self) -> str:
        """The labels in one line."""
        return ', '.join(f'{name} {value}' for name, value in self.labels.items())


def milliseconds(step: Callable[[], Any], cold: bool = False) -> float:
    """Measure the median time of a step; with ``cold``, its inputs are not in the GPU's cache."""
    spare = torch.empty(CACHE_BYTES if cold else 0, dtype=torch.int8, device=DEVICE)
    times: list[float] = []
    for _ in range(WARM_UP):
        step()
    torch.cuda.synchronize()
    started = time.monotonic()
    while len(times) < MAX_ROUNDS and (len(times) < 3 or time.monotonic() - started < MAX_SECONDS):
        spare.zero_()
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        first.record()
        step()
        last.record()
        torch.cuda.synchronize()
        times.append(first.elapsed_time(last))
    return statistics.median(times)


@dataclass(frozen=True)
class Problem:
    """Window attention on a map of random queries, keys and values.

    Attributes:
        batch: images.
        height: rows of the map.
        width: columns of the map.
        heads: attention heads.
        window: side of a window in tokens.
        shifted: whether the windows are shifted.
        version: 2 for cosine attention with a scale per head.
        dim: channels of a head.
    """

    batch: int
    height: int
    width: int
    heads: int
    window: int
    shifted: bool
    version: int
    dim: int = 32

    def tensors(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """Create inputs by name: the map in ``dtype``, parameters in float32, and the output gradient ``d_out``."""
        random, channels = partial(torch.randn, device=DEVICE), self.heads * self.dim
        found = dict(
            qkv=random(self.batch, self.height, self.width, 3 * channels).to(dtype),
            bias=random(self.heads, self.window**2, self.window**2),
            pad_value=random(3 * channels),
        )
        if self.version == 2:
            found['scale'] = torch.rand(self.heads, 1, 1, device=DEVICE) * 10 + 1
        found = {name: value.requires_grad_() for name, value in found.items()}
        return {**found, 'd_out': random(self.batch, self.height, self.width, channels).to(dtype)}

    def attend(self, tensors: dict[str, Tensor], backend: str) -> Tensor:
        """Compute window attention of ``tensors``."""
        plan = WindowPlan(self.height, self.width, (self.window, self.window))
        qkv, bias, pad = tensors['qkv'], tensors['bias'], tensors['pad_value']
        scale, cosine = tensors.get('scale', self.dim**-0.5), self.version == 2
        return window_attention(qkv, bias, plan, self.shifted, self.heads, scale, pad, backend=backend, cosine=cosine)

    def results(self, tensors: dict[str, Tensor], backend: str) -> dict[str, Tensor]:
        """Return the output and the gradients by name."""
        inputs = {name: value for name, value in tensors.items() if name != 'd_out'}
        out = self.attend(tensors, backend)
        grads = torch.autograd.grad(out, list(inputs.values()), tensors['d_out'])
        return dict(out=out.detach(), **{f'd_{name}': grad for name, grad in zip(inputs, grads, strict=True)})


class Kernels:
    """Rows of the GPU's peak rates and of window attention."""

    def __init__(self) -> None:
        self.copy_rate = float('nan')  # bytes per millisecond

    def rows(self) -> Iterator[Row]:
        """Yield all rows."""
        yield Row(CEILINGS, dict(what='copy, GB/s'), 0, 1, self.copy)
        yield Row(CEILINGS, dict(what='bfloat16 product, TFLOP/s'), 0, 1, self.product)
        yield from self.correctness()
        yield from self.stages()

    def copy(self) -> dict[str, Any]:
        """Measure the bandwidth of a copy: bytes read and written."""
        source = torch.empty(COPIED, dtype=torch.int8, device=DEVICE)
        target = torch.empty_like(source)
        self.copy_rate = 2 * source.nbytes / milliseconds(lambda: target.copy_(source))
        return dict(rate=self.copy_rate / 1e6)

    def product(self) -> dict[str, Any]:
        """Measure the FLOP/s of a large matrix product."""
        x = torch.randn(PRODUCT, PRODUCT, dtype=torch.bfloat16, device=DEVICE)
        return dict(rate=2 * PRODUCT**3 / milliseconds(lambda: x @ x) / 1e9)

    def correctness(self) -> Iterator[Row]:
        """Yield a row for every kernel and dtype; large windows have a lower priority."""
        for window, version, rank in ((7, 1, 1), (8, 2, 1), (12, 1, 3), (16, 2, 3)):
            for shifted in (False, True):
                problem = Problem(2, *SMALL_MAP, heads=4, window=window, shifted=shifted, version=version)
                for dtype in LIMITS:
                    labels = dict(window=window, shifted=shifted, version=version, dtype=str(dtype)[6:])
                    yield Row(CORRECT, labels, rank, 3, partial(self.errors, problem, dtype))

    def errors(self, problem: Problem, dtype: torch.dtype) -> dict[str, Any]:
        """Compare output and gradients with the definition in float64, and two runs with each other."""
        tensors = problem.tensors(dtype)
        wide = {name: value.detach().double() for name, value in tensors.items()}
        wide |= {name: value.requires_grad_() for name, value in wide.items() if name != 'd_out'}
        ours, again, exact = (
            problem.results(t, b) for t, b in ((tensors, 'triton'), (tensors, 'triton'), (wide, 'eager'))
        )
        found = {name: float((ours[name].double() - true).norm() / true.norm()) for name, true in exact.items()}
        # The kernels for windows of one tile, which have both passes, must be deterministic.
        equal = all(torch.equal(value, again[name]) for name, value in ours.items()) or problem.window > 8
        good = equal and all(error < LIMITS[dtype] for error in found.values())
        return dict(correct='yes' if good else 'NO', equal_runs='yes' if equal else 'NO', **found)

    def stages(self) -> Iterator[Row]:
        """Yield rows for both passes of each stage and backend."""
        (batch, shape), *_ = BATCHES
        for version, later in ((1, 0), (2, 6)):
            for stage, heads in enumerate(get_variant('tiny', version).num_heads):
                height, width = (-(-size // (4 * 2**stage)) for size in shape)
                for shifted in (False, True):
                    problem = Problem(batch, height, width, heads, DEFAULT_WINDOW[version], shifted, version)
                    for backend, rank in (('triton', 2), ('sdpa', 8), ('eager', 12)):
                        for backward in (False, True):
                            labels = dict(version=version, stage=stage + 1, shifted=shifted, backend=backend)
                            labels['pass'] = 'backward' if backward else 'forward'
                            measure = partial(self.attention, problem, backend, backward)
                            yield Row(ATTENTION, labels, rank + later, 2, measure)

    def attention(self, problem: Problem, backend: str, backward: bool) -> dict[str, Any]:
        """Time one pass, and compare it with the time to copy its inputs and outputs."""
        tensors = problem.tensors(torch.bfloat16)
        d_out = tensors.pop('d_out')
        if backward:
            out, inputs = problem.attend(tensors, backend), list(tensors.values())
            spent = milliseconds(
                partial(torch.autograd.grad, out, inputs, d_out, retain_graph=True, allow_unused=True), cold=True
            )
        else:
            with torch.no_grad():
                spent = milliseconds(lambda: problem.attend(tensors, backend), cold=True)
        least = d_out.nbytes * (7 if backward else 4)
        return dict(us=1000 * spent, GB_s=least / spent / 1e6, share_of_copy=least / spent / self.copy_rate)


def backbones() -> Iterator[Row]:
    """Yield rows for whole backbones of all implementations; compilation takes about a minute."""
    for (batch, shape), batch_rank in BATCHES.items():
        for (variant, version), network_rank in NETWORKS.items():
            for name, name_rank in IMPLEMENTATIONS.items():
                for train in (False, True):
                    for compiled in (False, True):
                        labels = dict(
                            images=f'{batch} x {shape[0]} x {shape[1]}',
                            network=f'{variant} V{version}',
                            mode='training step' if train else 'inference',
                            implementation=name,
                            compiled=compiled,
                        )
                        rank = 4 + batch_rank + network_rank + name_rank + train + 2 * compiled + (train and compiled)
                        measure = partial(backbone, name, variant, version, batch, shape, train, compiled)
                        yield Row(BACKBONE, labels, rank, (50 if train else 30) if compiled else 5, measure)


def backbone(
    name: str, variant: str, version: int, batch: int, shape: implementations.Shape, train: bool, compiled: bool
) -> dict[str, Any]:  # fmt: skip
    """Measure time and memory of one implementation."""
    torch.cuda.empty_cache()
    if name in BACKENDS:
        model: Any = SwinTransformer(variant, version, drop_path_rate=0.0, backend=BACKENDS[name])
    else:
        model = implementations.BUILDERS[name](variant, version, shape)
    if model is None:
        return dict(error='it has no such network')
    model.to(DEVICE).train(train)
    if compiled:
        torch.compiler.reset()
        model.compile()
    image = torch.randn(batch, 3, *shape, device=DEVICE)
    step = (implementations.training_step if train else implementations.forward_step)(model, image, torch.bfloat16)
    spent = milliseconds(step)
    return dict(ms=spent, images_per_s=1000 * batch / spent, peak_MiB=timing.gpu_peak(step) / 2**20)
