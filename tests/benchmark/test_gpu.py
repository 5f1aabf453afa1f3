"""The order, the time budget and the files of the benchmark on a GPU, with stub rows; no kernel runs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from swin_backbone.benchmark import gpu
from swin_backbone.cli import benchmark
from swin_backbone.errors import InputError

FACTS: dict[str, Any] = dict(hardware='a GPU', cores=1, threads=1, load=0, python='3', versions={}, command='benchmark')


class Clock:
    """A clock that moves when a stub row is measured."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def row(self, name: str, rank: int, seconds: float, measure: Callable[[], Any] | None = None) -> gpu.Row:
        def measured() -> dict[str, Any]:
            self.now += seconds
            return measure() if measure else dict(ms=0.001 * rank)

        return gpu.Row(gpu.ATTENTION, dict(what=name), rank, seconds, measured)


def test_rows_by_rank_until_the_time_is_up(tmp_path: Path) -> None:
    clock, report = Clock(), gpu.Report(tmp_path, FACTS)
    rows = [clock.row('late', 5, 2), clock.row('first', 0, 2), clock.row('long', 1, 20), clock.row('second', 2, 2)]
    gpu.run_rows(rows, report, budget=5, clock=clock)
    content = json.loads((tmp_path / 'gpu.json').read_text())
    assert [row['what'] for row in content['tables'][gpu.ATTENTION]] == ['first', 'second']
    assert content['left_out'] == ['long', 'late']
    text = (tmp_path / 'gpu.md').read_text()
    assert '| second | 2.0e-03 |' in text and '- late' in text


def test_each_row_is_written_at_once(tmp_path: Path) -> None:
    """A run that is cut keeps what it has, and a row that fails does not end it."""
    clock, report = Clock(), gpu.Report(tmp_path, FACTS)

    def fail() -> None:
        raise RuntimeError('out of\nmemory')

    def stop() -> None:
        assert '| first |' in (tmp_path / 'gpu.md').read_text()
        raise KeyboardInterrupt

    rows = [clock.row('first', 0, 1), clock.row('large', 1, 1, fail), clock.row('cut', 2, 1, stop)]
    with pytest.raises(KeyboardInterrupt):
        gpu.run_rows(rows, report, budget=9, clock=clock)
    rows = json.loads((tmp_path / 'gpu.json').read_text())['tables'][gpu.ATTENTION]
    assert [row.get('error') for row in rows] == [None, 'RuntimeError: out of memory']


def test_rows_cover_what_is_promised() -> None:
    rows = [*gpu.Kernels().ceilings(), *gpu.Kernels().correctness(), *gpu.Kernels().stages(), *gpu.backbones()]
    assert {row.table for row in rows} == {gpu.CEILINGS, gpu.CORRECT, gpu.ATTENTION, gpu.BACKBONE}
    names = {row.labels['implementation'] for row in rows if row.table == gpu.BACKBONE}
    assert {'swin_backbone (sdpa)', *gpu.RIVALS} <= names
    assert len({tuple(row.labels.items()) for row in rows}) == len(rows)
    # Whether the kernels are correct comes before any timing of theirs.
    ranks = {table: min(row.rank for row in rows if row.table == table) for table in (gpu.CORRECT, gpu.ATTENTION)}
    assert ranks[gpu.CORRECT] < ranks[gpu.ATTENTION]


@pytest.mark.skipif(torch.cuda.is_available(), reason='this machine has a GPU')
def test_a_machine_without_gpu_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match='need an NVIDIA GPU'):
        benchmark.main(['gpu', '--out', str(tmp_path / 'out')])
    assert not (tmp_path / 'out').exists()


def test_results_of_another_run_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, 'why_not_on', lambda device: None)
    (tmp_path / 'gpu.json').write_text('{}')
    with pytest.raises(InputError, match='results of another run'):
        gpu.measure_gpu(tmp_path, 300)


def test_options_of_the_other_benchmarks_do_not_mix() -> None:
    with pytest.raises(InputError, match='write gpu first'):
        benchmark.main(['--rounds', '3', 'gpu'])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
def test_ceilings_are_measured(tmp_path: Path) -> None:
    report = gpu.Report(tmp_path, FACTS)
    gpu.run_rows(list(gpu.Kernels().ceilings()), report, budget=60)
    assert all(row['rate'] > 0 for row in report.rows(gpu.CEILINGS))
