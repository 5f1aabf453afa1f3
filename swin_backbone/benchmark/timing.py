"""Timing of implementations in one process, interleaved, on the same input, as medians."""

import ctypes
import gc
import importlib.metadata
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from swin_backbone.evaluation.tables import markdown_table

Step = Callable[[], Any]
PACKAGES = ('torch', 'mmengine', 'mmcv', 'mmdet', 'mmsegmentation', 'timm', 'torchvision', 'transformers', 'triton')


@dataclass(frozen=True)
class Timing:
    """The times of one implementation.

    Attributes:
        part: what was timed, such as a stage.
        name: the implementation.
        median_ms: median of the timed rounds in milliseconds.
        quartiles_ms: lower and upper quartile in milliseconds.
        ratio: median of the reference divided by this median; above 1 is faster than the reference.
        peak_bytes: peak memory of a run minus the memory in use before it; None if it cannot be measured.
    """

    part: str
    name: str
    median_ms: float
    quartiles_ms: tuple[float, float]
    ratio: float
    peak_bytes: int | None = None


def synchronize(device: str) -> None:
    """Wait for the kernels queued on the device."""
    if device == 'cuda':
        torch.cuda.synchronize()


def time_interleaved(steps: dict[str, Step], device: str, warm_up: int, rounds: int) -> dict[str, list[float]]:
    """Run all ``steps`` in each of ``rounds`` rounds after ``warm_up`` rounds, and return the milliseconds of each.

    They are interleaved so that a slow period of the machine affects all of them.
    """
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(warm_up + rounds):
        for name in rotate_order(list(steps), number):
            synchronize(device)
            started = time.perf_counter()
            steps[name]()
            synchronize(device)
            if number >= warm_up:
                times[name].append(1000 * (time.perf_counter() - started))
    return times


def rotate_order(names: list[str], number: int) -> list[str]:
    """Return the order of a round, rotated by one in each round."""
    first = number % max(1, len(names))
    return names[first:] + names[:first]


def peak_memory(steps: dict[str, Step], device: str) -> dict[str, int]:
    """Measure the peak memory in bytes of one run of each step, minus the memory in use before.

    On a GPU it is the memory allocated by PyTorch; on a CPU the resident memory of the process, only on Linux.
    """
    measure = gpu_peak if device == 'cuda' else resident_peak
    if device != 'cuda' and not RESET_PEAK.exists():
        return {}
    return {name: measure(step) for name, step in steps.items()}


def gpu_peak(step: Step) -> int:
    """Measure the peak of PyTorch's GPU memory in bytes during a step."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


RESET_PEAK = Path('/proc/self/clear_refs')


def resident_peak(step: Step) -> int:
    """Measure the peak of the resident memory in bytes during a step, on Linux."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # otherwise the step could reuse free memory that still counts as resident
    RESET_PEAK.write_text('5')
    before = resident('VmRSS')
    step()
    return resident('VmHWM') - before


def resident(key: str) -> int:
    """Read a size in bytes from the status of this process."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(f'{key}:')))


def runnable(steps: dict[str, Step]) -> tuple[dict[str, Step], dict[str, str]]:
    """Run each step once, and return those that succeed and the errors of the others."""
    good: dict[str, Step] = {}
    failed: dict[str, str] = {}
    for name, step in steps.items():
        try:
            step()
            good[name] = step
        except Exception as error:  # third-party code may raise any exception
            failed[name] = f'it failed with {type(error).__name__}: {" ".join(str(error).split())[:200]}'
    return good, failed


def compare(times: dict[str, list[float]], part: str = '', peaks: dict[str, int] | None = None) -> list[Timing]:
    """Summarise the milliseconds of implementations; ratios are relative to the first one."""
    reference = statistics.median(next(iter(times.values()), [0.0]))
    rows = []
    for name, values in times.items():
        median = statistics.median(values)
        low, _, high = statistics.quantiles(values, n=4, method='inclusive') if len(values) > 1 else values * 3
        rows.append(Timing(part, name, median, (low, high), reference / median, (peaks or {}).get(name)))
    return rows


def processor() -> str:
    """Return the model name of the CPU."""
    listing = Path('/proc/cpuinfo')
    lines = listing.read_text().splitlines() if listing.is_file() else []
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor() or platform.machine()


def environment(device: str) -> dict[str, Any]:
    """Collect the hardware, the versions and the command as plain values."""
    present = {dist.metadata['Name'] for dist in importlib.metadata.distributions()}
    names = [name for name in present if name and name.removeprefix('onedl-') in (*PACKAGES, 'mmdetection')]
    script, *arguments = sys.argv
    launcher = ['python', script] if script.endswith('.py') else [Path(script).name]
    return dict(
        hardware=torch.cuda.get_device_name() if device == 'cuda' else processor(),
        device=device,
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        load=round(os.getloadavg()[0], 2) if hasattr(os, 'getloadavg') else None,
        python=platform.python_version(),
        versions={name: importlib.metadata.version(name) for name in sorted(names)},
        command=shlex.join([*launcher, *arguments]),
    )


def describe(facts: dict[str, Any]) -> str:
    """Format the result of :func:`environment` as text."""
    versions = ', '.join(f'{name} {version}' for name, version in facts['versions'].items())
    return (
        f'{facts["hardware"]}, {facts["cores"]} cores, {facts["threads"]} threads, load {facts["load"]} at the start\n'
        f'Python {facts["python"]}, {versions}\n{facts["command"]}'
    )


def as_table(rows: Sequence[Timing]) -> str:
    """Format the timings as a Markdown table, with memory if it was measured."""
    memory = any(row.peak_bytes is not None for row in rows)
    header = ['part', 'implementation', 'median ms', 'quartiles ms', 'times as fast', *['peak MiB'] * memory]
    body = []
    for row in rows:
        low, high = row.quartiles_ms
        peak = '-' if row.peak_bytes is None else f'{row.peak_bytes / 2**20:.0f}'
        cells = [row.part, row.name, f'{row.median_ms:.1f}', f'{low:.1f} to {high:.1f}', f'{row.ratio:.2f}']
        body.append([*cells, *[peak] * memory])
    return markdown_table(header, body, left=(0, 1))
