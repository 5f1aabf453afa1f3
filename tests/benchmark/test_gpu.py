"""The GPU benchmark: order, time budget, files and goals with stub rows, and every real row on the CPU."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from swin_backbone.ablations import gpu_rows as ablations
from swin_backbone.attention.kernels import window_attention
from swin_backbone.benchmark import gpu, gpu_rows, gpu_targets, implementations, timing
from swin_backbone.cli import benchmark
from swin_backbone.errors import InputError, RunFailure
from tests.conftest import REPOSITORY
from tests.helpers import tiny_backbone

FACTS: dict[str, Any] = dict(hardware='a GPU', cores=1, threads=1, load=0, python='3', versions={}, command='benchmark')


class Clock:
    """A clock that advances when a stub row is measured."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def row(self, name: str, rank: int, seconds: float, measure: Callable[[], Any] | None = None) -> gpu_rows.Row:
        def measured() -> dict[str, Any]:
            self.now += seconds
            return measure() if measure else dict(ms=0.001 * rank)

        return gpu_rows.Row('Stubs', dict(what=name), rank, seconds, measured)


def all_rows() -> list[gpu_rows.Row]:
    return [*gpu_rows.Kernels().rows(), *gpu_rows.backbones(), *ablations.table5()]


def test_rows_are_measured_by_rank_within_the_budget(tmp_path: Path) -> None:
    clock = Clock()
    rows = [clock.row('late', 5, 2), clock.row('first', 0, 2), clock.row('long', 1, 20), clock.row('second', 2, 2)]
    gpu.run_rows(gpu.Report(tmp_path, FACTS, rows), budget=5, clock=clock)
    content = json.loads((tmp_path / 'gpu.json').read_text())
    assert [row['what'] for row in content['tables']['Stubs']] == ['first', 'second']
    assert content['left_out'] == ['what long', 'what late']
    text = (tmp_path / 'gpu.md').read_text()
    assert '| second | 2.0e-03 |' in text and '- what late' in text


def test_files_are_written_after_every_row(tmp_path: Path) -> None:
    """An interrupted run keeps its results, and a failing row does not end the run."""
    clock = Clock()

    def fail() -> None:
        raise RuntimeError('out of\nmemory')

    def stop() -> None:
        assert '| first |' in (tmp_path / 'gpu.md').read_text()
        raise KeyboardInterrupt

    rows = [clock.row('first', 0, 1), clock.row('large', 1, 1, fail), clock.row('cut', 2, 1, stop)]
    with pytest.raises(KeyboardInterrupt):
        gpu.run_rows(gpu.Report(tmp_path, FACTS, rows), budget=9, clock=clock)
    rows = json.loads((tmp_path / 'gpu.json').read_text())['tables']['Stubs']
    assert [row.get('error') for row in rows] == [None, 'RuntimeError: out of memory']


def test_rows_cover_all_tables() -> None:
    rows = all_rows()
    assert [row.table for row in rows if row.rank == 0] == 2 * [gpu_rows.CEILINGS]
    assert {row.table for row in rows} == {
        gpu_rows.CEILINGS, gpu_rows.CORRECT, gpu_rows.ATTENTION, gpu_rows.BACKBONE, ablations.TITLE
    }  # fmt: skip
    assert len({(row.table, row.name) for row in rows}) == len(rows)
    # Correctness of the kernels is checked before they are timed.
    ranks = {
        table: min(row.rank for row in rows if row.table == table) for table in (gpu_rows.CORRECT, gpu_rows.ATTENTION)
    }
    assert ranks[gpu_rows.CORRECT] < ranks[gpu_rows.ATTENTION]


def test_default_budget_covers_most_goals(tmp_path: Path) -> None:
    """By the estimates of the rows, all goals are covered except compiled training of other implementations."""
    clock = Clock()
    rows = [clock.row(row.name, row.rank, row.seconds) for row in all_rows()]
    report = gpu.Report(tmp_path, FACTS, rows)
    report.write = lambda: None
    gpu.run_rows(report, benchmark.build_gpu_parser().parse_args([]).budget, clock=clock)
    measured = {rows[place].labels['what'] for place in report.cells}
    needed = [
        row.name
        for row in all_rows()
        if row.rank <= 2
        or (
            row.table == gpu_rows.BACKBONE
            and row.labels['network'] == 'tiny V1'
            and row.labels['images'] == gpu_targets.LARGE
            and row.labels['implementation'] in gpu_rows.BACKENDS
            and not (row.labels['compiled'] and row.labels['mode'] == 'training step')
        )
    ]
    assert set(needed) <= measured


def backbone_cells(implementation: str, mode: str, compiled: bool, ms: float, **others: Any) -> dict[str, Any]:
    given = dict(images=gpu_targets.LARGE, network='tiny V1', peak_MiB=1000.0) | others
    return dict(implementation=implementation, mode=mode, compiled=compiled, ms=ms, **given)


def test_goals_are_compared_with_measurements() -> None:
    attention = [
        dict(version=1, stage=stage, shifted=shifted, backend='triton', us=100.0 * stage, share_of_copy=0.8)
        | {'pass': p}
        for stage in (1, 2, 3, 4)
        for shifted in (False, True)
        for p in ('forward', 'backward')
        if (stage, p) != (4, 'backward')
    ]
    backbones = [
        backbone_cells(gpu_rows.OURS, 'inference', False, 7.0),
        backbone_cells(gpu_rows.SDPA, 'inference', False, 9.8),
        backbone_cells(gpu_rows.OURS, 'inference', True, 7.0),
        backbone_cells('timm', 'inference', True, 7.0),
        backbone_cells('torchvision', 'inference', True, 8.0),
        backbone_cells('transformers', 'inference', True, 0.1, network='tiny V2'),
        dict(
            images=gpu_targets.LARGE, network='tiny V1', mode='inference', implementation='x', compiled=True, error='no'
        ),
        backbone_cells(gpu_rows.OURS, 'training step', False, 20.0, peak_MiB=600.0),
        backbone_cells('timm', 'training step', False, 40.0),
        backbone_cells(gpu_rows.OURS, 'inference', True, 5.6, images=gpu_targets.SMALL),
    ]
    rows = gpu_targets.goals({gpu_rows.ATTENTION: attention, gpu_rows.BACKBONE: backbones})
    assert [row['result'] for row in rows] == [
        'met', 'not measured', 'met', 'missed', 'not measured', 'not measured', 'met', 'met'
    ]  # fmt: skip
    found = [row['measured'] for row in rows]
    assert found == [pytest.approx(0.8), None, pytest.approx(1.4), pytest.approx(1.0), None, None, 0.6, 5.6]
    assert all(row['result'] == 'not measured' for row in gpu_targets.goals({}))


def on_the_cpu(patch: pytest.MonkeyPatch) -> None:
    """Make every row fast on the CPU: small sizes, one round, and another backend instead of the kernels."""

    def once(step: Callable[[], Any], cold: bool = False) -> float:
        step()
        return 1.0

    def small_map(batch: int, shape: Any, variant: str, version: int, stage: int) -> torch.Tensor:
        return torch.randn(1, 4, 4, 16 * 2**stage)

    def small(variant: str, version: int = 1, **options: Any) -> torch.nn.Module:
        return tiny_backbone(version=version, **options)

    def attend(*args: Any, backend: str, **options: Any) -> torch.Tensor:
        return window_attention(*args, backend='sdpa' if backend == 'triton' else backend, **options)

    patch.setattr(gpu_rows, 'DEVICE', 'cpu')
    patch.setattr(gpu_rows, 'COPIED', 2**10)
    patch.setattr(gpu_rows, 'PRODUCT', 8)
    patch.setattr(gpu_rows, 'SMALL_MAP', (9, 10))
    patch.setattr(gpu_rows, 'BATCHES', {(1, (32, 64)): 0})
    patch.setattr(gpu_rows, 'NETWORKS', {('tiny', 1): 0, ('tiny', 2): 3})
    patch.setattr(gpu_rows, 'BACKENDS', dict.fromkeys(gpu_rows.BACKENDS, 'sdpa'))
    patch.setattr(gpu_rows, 'milliseconds', once)
    patch.setattr(gpu_rows, 'window_attention', attend)
    patch.setattr(gpu_rows, 'SwinTransformer', small)
    patch.setattr(ablations, 'SwinTransformer', small)
    patch.setattr(ablations, 'stage_input', small_map)
    patch.setattr(ablations, 'BATCH', 1)
    patch.setattr(ablations, 'SHAPE', (32, 32))
    patch.setattr(gpu, 'unavailable_reason', lambda device: None)
    patch.setattr(timing, 'gpu_peak', lambda step: 2**20)
    patch.setattr(timing, 'environment', lambda device: FACTS)
    patch.setattr(torch.nn.Module, 'compile', lambda module: None)


def keep(report: gpu.Report, place: int, cells: dict[str, Any]) -> None:
    """Add a row without writing the files each time."""
    report.cells[place] = {**report.plan[place].labels, **cells}


def test_every_row_runs_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_the_cpu(monkeypatch)
    for name in gpu_rows.IMPLEMENTATIONS.keys() - gpu_rows.BACKENDS.keys():
        monkeypatch.setitem(implementations.BUILDERS, name, lambda variant, version, shape: None)
    monkeypatch.setattr(gpu.Report, 'add', keep)
    gpu.measure_gpu(tmp_path, 1e9, ablations.table5())
    content = json.loads((tmp_path / 'gpu.json').read_text())
    assert len(content['tables']) == 5 and not content['left_out'] and len(content['goals']) == 8
    for title, rows in content['tables'].items():
        errors = {row['error'] for row in rows if 'error' in row}
        assert errors <= ({'it has no such network'} if title == gpu_rows.BACKBONE else set())
    text = (tmp_path / 'gpu.md').read_text()
    assert text.index('## Goals on an H100') < text.index(f'## {gpu_rows.CEILINGS}')
    assert all(row['correct'] == 'yes' for row in content['tables'][gpu_rows.CORRECT])


def test_incorrect_kernel_raises_run_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_the_cpu(monkeypatch)
    monkeypatch.setattr(gpu_rows, 'LIMITS', {torch.float32: 0.0})
    monkeypatch.setattr(gpu_rows.Kernels, 'stages', lambda self: iter(()))
    monkeypatch.setattr(gpu, 'backbones', lambda: ())
    with pytest.raises(RunFailure, match='8 rows of the correctness table failed'):
        gpu.measure_gpu(tmp_path, 1e9)


BARE = """
import runpy
import sys
from pathlib import Path

for name in ('mmengine', 'mmcv', 'mmdet', 'mmseg', 'pycocotools', 'numpy', 'safetensors'):
    sys.modules[name] = None
script, out, facts = {script!r}, {out!r}, {facts!r}
sys.path = [path for path in sys.path if not Path(path, 'swin_backbone', 'cli').is_dir() or 'site-packages' in path]
sys.argv = [script, 'gpu', '--out', out, '--budget', '14']
try:
    runpy.run_path(script, run_name='__main__')
except SystemExit as stop:
    assert stop.code == 2 and not Path(out).exists()

from swin_backbone.benchmark import gpu, gpu_rows, timing

gpu.unavailable_reason = lambda device: None
gpu_rows.DEVICE = 'cpu'
gpu_rows.milliseconds = lambda step, cold=False: float(len([step()]))
gpu_rows.COPIED, gpu_rows.PRODUCT = 8, 8
gpu_rows.BATCHES, gpu_rows.NETWORKS = {{(1, (32, 32)): 0}}, {{('tiny', 2): 0}}
gpu_rows.IMPLEMENTATIONS = {{gpu_rows.SDPA: 0}}
gpu_rows.Kernels.correctness = gpu_rows.Kernels.stages = lambda self: ()
timing.gpu_peak = lambda step: 0
timing.environment = lambda device: facts
runpy.run_path(script, run_name='__main__')
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason='this machine has a GPU')
def test_gpu_benchmark_needs_only_torch(tmp_path: Path) -> None:
    """Without a GPU there is one error line; backbones run without numpy and toolkits."""
    script = str(REPOSITORY / 'tools' / 'benchmark.py')
    code = BARE.format(script=script, out=str(tmp_path / 'out'), facts=FACTS)
    environment = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    command = [sys.executable, '-c', code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith('error'))
    assert 'benchmark gpu cannot run here: the kernels need an NVIDIA GPU, and the tensors are on cpu' in line
    tables = json.loads((tmp_path / 'out' / 'gpu.json').read_text())['tables']
    assert len(tables[gpu_rows.BACKBONE]) == 2 and not any('error' in row for row in tables[gpu_rows.BACKBONE])


def test_results_of_another_run_are_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, 'unavailable_reason', lambda device: None)
    (tmp_path / 'gpu.json').write_text('{}')
    with pytest.raises(InputError, match='results of another run'):
        gpu.measure_gpu(tmp_path, 300)


def test_options_before_the_gpu_command_raise_input_error() -> None:
    with pytest.raises(InputError, match='put gpu first'):
        benchmark.main(['--rounds', '3', 'gpu'])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
def test_ceilings_are_measured_on_the_gpu(tmp_path: Path) -> None:
    rows = [row for row in gpu_rows.Kernels().rows() if row.table == gpu_rows.CEILINGS]
    report = gpu.Report(tmp_path, FACTS, rows)
    gpu.run_rows(report, budget=60)
    assert all(row['rate'] > 0 for row in report.tables()[gpu_rows.CEILINGS])
