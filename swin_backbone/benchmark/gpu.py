"""Measure the Triton kernels and whole backbones on a GPU, the most important rows first, until the time is up."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from swin_backbone import SwinTransformer
from swin_backbone.attention.kernels import window_attention
from swin_backbone.attention.kernels.fused import why_not_on
from swin_backbone.attention.plan import WindowPlan
from swin_backbone.benchmark import rivals, timing
from swin_backbone.errors import InputError, RunFailure
from swin_backbone.evaluation.tables import markdown_table
from swin_backbone.files import write_json, write_text
from swin_backbone.variants import get_variant

TITLES = CEILINGS, CORRECT, ATTENTION, BACKBONE = (
    'Ceilings',
    'Correctness: errors against float64, as a fraction of the norm',
    'Attention alone, Swin-T at 8 x 800 x 1216, bfloat16',
    'Whole backbone, bfloat16 autocast',
)
LIMITS = {torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}
"""Largest error of a correct kernel."""

WARM_UP, MOST_ROUNDS, MOST_SECONDS = 3, 25, 1.5
CACHE_BYTES = 2**30
"""Written before each round of a kernel: its inputs leave the GPU's cache, and the host has time to launch it."""

BATCHES = ((8, (800, 1216)), (32, (224, 224)), (1, (800, 1216)))
NETWORKS = (('tiny', 1), ('tiny', 2), ('base', 1))
RIVALS = ('timm', 'torchvision', 'transformers')


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        table: the title of its table.
        labels: what is measured, as the first cells of the row.
        rank: its place in the order; a lower one is measured earlier.
        seconds: how long it takes, roughly; it is left out if less than that remains.
        measure: returns the other cells by column.
    """

    table: str
    labels: dict[str, Any]
    rank: int
    seconds: float
    measure: Callable[[], dict[str, Any]]


@dataclass
class Report:
    """The measured rows, as ``gpu.md`` and ``gpu.json`` in a folder. Both are written after each row.

    Attributes:
        folder: where the files are.
        facts: see :func:`swin_backbone.benchmark.timing.environment`.
        tables: rows by title and by their place in the plan.
        left_out: labels of rows that there was no time for.
    """

    folder: Path
    facts: dict[str, Any]
    tables: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def add(self, table: str, place: int, cells: dict[str, Any]) -> None:
        """Add a row and write the files."""
        self.tables.setdefault(table, {})[place] = cells
        print(', '.join(f'{name} {cell(value)}' for name, value in cells.items()), flush=True)
        self.write()

    def rows(self, table: str) -> list[dict[str, Any]]:
        """The measured rows of a table in the order of the plan."""
        found = self.tables.get(table, {})
        return [found[place] for place in sorted(found)]

    def write(self) -> None:
        """Write both files."""
        parts = [f'# GPU\n\n{timing.describe(self.facts)}']
        for title in filter(self.tables.get, TITLES):
            rows = self.rows(title)
            columns = list(dict.fromkeys(name for row in rows for name in row))
            body = [[cell(row.get(name)) for name in columns] for row in rows]
            parts.append(f'## {title}\n\n{markdown_table(columns, body)}')
        if self.left_out:
            parts.append('## Not measured: no time left\n\n' + '\n'.join(f'- {labels}' for labels in self.left_out))
        write_text(self.folder / 'gpu.md', '\n\n'.join(parts) + '\n')
        tables = {title: self.rows(title) for title in self.tables}
        write_json(self.folder / 'gpu.json', dict(environment=self.facts, tables=tables, left_out=self.left_out))


def cell(value: Any) -> str:
    """Format a value for a table."""
    if isinstance(value, float):
        return f'{value:.1e}' if abs(value) < 0.01 else f'{value:.3g}' if abs(value) < 1000 else f'{value:.0f}'
    return '-' if value is None else str(value)


def run_rows(
    rows: Sequence[Row], report: Report, budget: float, clock: Callable[[], float] = time.monotonic
) -> None:  # fmt: skip
    """Measure ``rows`` by rank into ``report``, leaving out what would not end within ``budget`` seconds."""
    started = clock()
    for place, row in sorted(enumerate(rows), key=lambda pair: pair[1].rank):
        if clock() - started + row.seconds > budget:
            report.left_out.append(', '.join(map(str, row.labels.values())))
            continue
        try:
            cells = row.measure()
        except Exception as error:  # out of memory, and whatever third-party code raises
            cells = dict(error=f'{type(error).__name__}: {" ".join(str(error).split())[:200]}')
        report.add(row.table, place, {**row.labels, **cells})
    report.write()


def measure_gpu(folder: Path, budget: float) -> None:
    """Measure everything on the current GPU.

    Args:
        folder: where ``gpu.md`` and ``gpu.json`` are written.
        budget: seconds.

    Raises:
        InputError: the kernels cannot run here, or the folder has results already.
        RunFailure: a kernel is not correct.
    """
    if reason := why_not_on(torch.device('cuda' if torch.cuda.is_available() else 'cpu')):
        raise InputError(
            f'benchmark gpu cannot run here: {reason}; run it on a machine where `doctor` names the kernels.'
        )
    if (folder / 'gpu.json').exists():
        raise InputError(f'{folder} has the results of another run: give a new folder with --out.')
    torch.manual_seed(0)
    report = Report(folder, timing.environment('cuda'))
    kernels = Kernels()
    run_rows([*kernels.ceilings(), *kernels.correctness(), *kernels.stages(), *backbones()], report, budget)
    wrong = [row for row in report.rows(CORRECT) if row.get('correct') != 'yes']
    if wrong:
        raise RunFailure(f'{len(wrong)} rows of the correctness table are wrong: see {folder / "gpu.md"}.')


def milliseconds(step: Callable[[], Any], cold: bool = False) -> float:
    """Median time of a step; with ``cold``, nothing it reads is in the GPU's cache."""
    spare = torch.empty(CACHE_BYTES if cold else 0, dtype=torch.int8, device='cuda')
    times: list[float] = []
    for _ in range(WARM_UP):
        step()
    torch.cuda.synchronize()
    started = time.monotonic()
    while len(times) < MOST_ROUNDS and (len(times) < 3 or time.monotonic() - started < MOST_SECONDS):
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
    """Attention to a map of random queries, keys and values; ``cosine`` is V2."""

    batch: int
    height: int
    width: int
    heads: int
    window: int
    shifted: bool
    cosine: bool = False
    dim: int = 32

    def tensors(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """Inputs by name, the map in ``dtype`` and parameters in float32, and the gradient of the output, ``d_out``."""
        random, channels = partial(torch.randn, device='cuda'), self.heads * self.dim
        found = dict(
            qkv=self.normalized(random(self.batch, self.height, self.width, 3 * channels)).to(dtype),
            bias=random(self.heads, self.window**2, self.window**2),
            pad_value=self.normalized(random(3 * channels)),
        )
        if self.cosine:
            found['scale'] = torch.rand(self.heads, 1, 1, device='cuda') * 10 + 1
        found = {name: value.requires_grad_() for name, value in found.items()}
        return {**found, 'd_out': random(self.batch, self.height, self.width, channels).to(dtype)}

    def normalized(self, qkv: Tensor) -> Tensor:
        """V2's queries and keys of unit length; V1's as they are."""
        if not self.cosine:
            return qkv
        q, k, v = qkv.unflatten(-1, (3, self.heads, self.dim)).unbind(-3)
        return torch.stack([F.normalize(q, dim=-1), F.normalize(k, dim=-1), v], dim=-3).flatten(-3)

    def attend(self, tensors: dict[str, Tensor], backend: str) -> Tensor:
        """Window attention of ``tensors``."""
        plan = WindowPlan(self.height, self.width, (self.window, self.window))
        qkv, bias, pad = tensors['qkv'], tensors['bias'], tensors['pad_value']
        scale = tensors.get('scale', self.dim**-0.5)
        return window_attention(qkv, bias, plan, self.shifted, self.heads, scale, pad, backend=backend)

    def results(self, tensors: dict[str, Tensor], backend: str) -> dict[str, Tensor]:
        """The output, and the gradients by name."""
        inputs = {name: value for name, value in tensors.items() if name != 'd_out'}
        out = self.attend(tensors, backend)
        grads = torch.autograd.grad(out, list(inputs.values()), tensors['d_out'])
        return dict(out=out.detach(), **{f'd_{name}': grad for name, grad in zip(inputs, grads, strict=True)})


class Kernels:
    """Rows about window attention alone."""

    def __init__(self) -> None:
        self.copy_rate = float('nan')  # bytes a millisecond

    def ceilings(self) -> Iterator[Row]:
        """What the GPU can do at best."""
        yield Row(CEILINGS, dict(what='copy, GB/s'), 0, 1, self.copy)
        yield Row(CEILINGS, dict(what='bfloat16 product, TFLOP/s'), 0, 1, self.product)

    def copy(self) -> dict[str, Any]:
        """Bytes read and written by a copy."""
        source = torch.empty(2**30, dtype=torch.int8, device='cuda')
        target = torch.empty_like(source)
        self.copy_rate = 2 * source.nbytes / milliseconds(lambda: target.copy_(source))
        return dict(rate=self.copy_rate / 1e6)

    def product(self) -> dict[str, Any]:
        """Additions and multiplications of a large product."""
        x = torch.randn(8192, 8192, dtype=torch.bfloat16, device='cuda')
        return dict(rate=2 * 8192**3 / milliseconds(lambda: x @ x) / 1e9)

    def correctness(self) -> Iterator[Row]:
        """Every kernel in every dtype."""
        sizes = dict(batch=2, height=25, width=38)
        for window, cosine in ((7, False), (8, True), (12, False), (16, True)):
            for shifted in (False, True):
                problem = Problem(**sizes, heads=4, window=window, shifted=shifted, cosine=cosine)
                for dtype in LIMITS:
                    labels = dict(window=window, shifted=shifted, version=1 + cosine, dtype=str(dtype)[6:])
                    yield Row(CORRECT, labels, 1, 3, partial(self.errors, problem, dtype))

    def errors(self, problem: Problem, dtype: torch.dtype) -> dict[str, Any]:
        """Compare output and gradients with the definition in float64, and two runs with each other."""
        tensors = problem.tensors(dtype)
        wide = {name: value.detach().double() for name, value in tensors.items()}
        wide |= {name: value.requires_grad_() for name, value in wide.items() if name != 'd_out'}
        ours, again, exact = (
            problem.results(t, b) for t, b in ((tensors, 'triton'), (tensors, 'triton'), (wide, 'eager'))
        )
        found = {name: float((ours[name].double() - true).norm() / true.norm()) for name, true in exact.items()}
        # Windows of one tile have kernels for both passes, and these are deterministic.
        equal = all(torch.equal(value, again[name]) for name, value in ours.items()) or problem.window > 8
        good = equal and all(error < LIMITS[dtype] for error in found.values())
        return dict(correct='yes' if good else 'NO', equal_runs='yes' if equal else 'NO', **found)

    def stages(self) -> Iterator[Row]:
        """Both passes of each stage, by backend."""
        sizes = get_variant('tiny', 1)
        for stage, heads in enumerate(sizes.num_heads):
            stride = 4 * 2**stage
            for shifted in (False, True):
                problem = Problem(8, -(-800 // stride), -(-1216 // stride), heads, 7, shifted)
                for backend, rank in (('triton', 2), ('sdpa', 3), ('eager', 12)):
                    for backward in (False, True):
                        labels = dict(stage=stage + 1, shifted=shifted, backend=backend)
                        labels['pass'] = 'backward' if backward else 'forward'
                        measure = partial(self.attention, problem, backend, backward)
                        yield Row(ATTENTION, labels, rank, 2, measure)

    def attention(self, problem: Problem, backend: str, backward: bool) -> dict[str, Any]:
        """Time one pass; the share is of the time that a copy of its inputs and outputs takes."""
        tensors = problem.tensors(torch.bfloat16)
        d_out = tensors.pop('d_out')
        if backward:
            out, inputs = problem.attend(tensors, backend), list(tensors.values())
            spent = milliseconds(lambda: torch.autograd.grad(out, inputs, d_out, retain_graph=True), cold=True)
        else:
            with torch.no_grad():
                spent = milliseconds(lambda: problem.attend(tensors, backend), cold=True)
        least = d_out.nbytes * (7 if backward else 4)
        return dict(us=1000 * spent, GB_s=least / spent / 1e6, share_of_copy=least / spent / self.copy_rate)


def backbones() -> Iterator[Row]:
    """Whole backbones against other implementations; the rank is a sum over what makes a row less interesting."""
    names = [*(name for name in reversed(rivals.OURS) if 'eager' not in name), *RIVALS]
    for batch_rank, (batch, shape) in enumerate(BATCHES):
        for network_rank, (variant, version) in enumerate(NETWORKS):
            for name_rank, name in enumerate(names):
                for train in (False, True):
                    for compiled in (False, True):
                        labels = dict(
                            images=f'{batch} x {shape[0]} x {shape[1]}',
                            network=f'{variant} V{version}',
                            mode='training step' if train else 'inference',
                            implementation=name,
                            compiled=compiled,
                        )
                        rank = 4 + batch_rank + network_rank + name_rank // 2 + train + 3 * compiled
                        measure = partial(backbone, name, variant, version, batch, shape, train, compiled)
                        yield Row(BACKBONE, labels, rank, (60 if train else 40) if compiled else 5, measure)


def backbone(
    name: str, variant: str, version: int, batch: int, shape: rivals.Shape, train: bool, compiled: bool
) -> dict[str, Any]:  # fmt: skip
    """Time one implementation, and measure its memory."""
    torch.cuda.empty_cache()
    if name in rivals.OURS:
        model: Any = SwinTransformer(variant, version, drop_path_rate=0.0, backend=rivals.OURS[name])
    else:
        model = rivals.BUILDERS[name](variant, version, shape)
    if model is None:
        return dict(error='it has no such network')
    model.cuda().train(train)
    if compiled:
        torch.compiler.reset()
        model.compile()
    image = torch.randn(batch, 3, *shape, device='cuda')
    step = (rivals.training_step if train else rivals.forward_step)(model, image, torch.bfloat16)
    spent = milliseconds(step)
    return dict(ms=spent, images_per_s=1000 * batch / spent, peak_MiB=timing.gpu_peak(step) / 2**20)
