"""Ablation tables: scores computed from summaries, and the written files."""

import csv
import json
import math
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip('matplotlib', reason='Matplotlib is not installed')

from swin_backbone import SwinTransformer
from swin_backbone.ablations import speed as ablation_speed
from swin_backbone.ablations.pages import write_speed, write_tables
from swin_backbone.ablations.paper_v1 import DEFAULT_RUN, METHODS, TABLES, TASKS
from swin_backbone.ablations.results import Outcome, Score, Spread, agreement, collect
from swin_backbone.ablations.speed import Column, SelfAttention, Speeds, make_protocol
from swin_backbone.attention.window_plan import WindowPlan
from swin_backbone.backbones.options import METHODS as ALL_METHODS
from swin_backbone.benchmark.timing import Timing, environment
from tests.conftest import REPOSITORY
from tests.evaluation.test_page import Reader

TABLE, SEGMENTATION = TABLES['table4'], TASKS['segmentation']


def outcome(run: str, seed: int, **summary: Any) -> Outcome:
    return Outcome(run, seed, 'finished', summary, f'runs/{run}/seed{seed}')


def some_outcomes() -> list[Outcome]:
    """Two rows with three seeds, one with one seed, a failed run and one that has not started."""
    scores = {DEFAULT_RUN: (0.50, 0.52, 0.54), 'no-shift': (0.47, 0.50, 0.50), 'no-pos': (0.51,)}
    found = [outcome(run, seed, mIoU=v, seconds=9.5) for run, vs in scores.items() for seed, v in enumerate(vs)]
    return [*found, Outcome('no-pos', 1, 'failed', remark='exit code 1, see <log>'), Outcome('abs-pos', 0, 'not run')]


def by_run(scores: list[Score]) -> dict[str, Score]:
    return {score.run: score for score in scores}


def test_scores_have_mean_deviation_and_differences_between_equal_seeds() -> None:
    score = by_run(collect(TABLE, ['mIoU'], some_outcomes()))['no-shift']
    assert score.here.values == pytest.approx((47.0, 50.0, 50.0)) and score.seeds == (0, 1, 2)
    assert score.here.mean == pytest.approx(49.0)
    assert score.here.deviation == pytest.approx(statistics.stdev((47, 50, 50)))
    assert score.difference.values == pytest.approx((-3.0, -2.0, -4.0))
    assert score.paper == 43.3 and score.paper_difference == pytest.approx(-2.8)
    assert score.here.text() == '49.00 ± 1.73' and score.difference.text(sign=True) == '-3.00 ± 1.00'


def test_rows_of_the_same_network_share_scores() -> None:
    scores = collect(TABLE, ['mIoU'], some_outcomes())
    assert [s.title for s in scores if s.run == DEFAULT_RUN] == ['shifted windows', 'rel. pos.']
    assert len(scores) == 7 and scores[1].here == scores[-1].here


def test_single_values_have_no_deviation() -> None:
    assert Spread((1.5,)).text() == '1.50' and math.isnan(Spread((1.5,)).deviation)
    assert Spread(()).text() == '' and math.isnan(Spread(()).mean)
    scores = by_run(collect(TABLE, ['mIoU'], some_outcomes()))
    assert scores['no-pos'].state == 'failed' and scores['no-pos'].here.values == pytest.approx((51.0,))
    assert scores['abs-pos'].state == 'not run' and scores['no-shift'].state == 'finished'


def test_agreement_compares_the_order_with_the_papers() -> None:
    order = agreement(collect(TABLE, ['mIoU'], some_outcomes()))
    assert order.paper == ('default', 'no-pos', 'no-shift') and order.here == ('default', 'no-pos', 'no-shift')
    assert (order.agreeing, order.pairs, order.tau) == (3, 3, 1.0)
    reversed_scores = {'default': 0.1, 'no-shift': 0.2, 'no-pos': 0.1}
    order = agreement(collect(TABLE, ['mIoU'], [outcome(run, 0, mIoU=v) for run, v in reversed_scores.items()]))
    assert (order.agreeing, order.opposed, order.tied) == (0, 2, 1) and order.tau == pytest.approx(-2 / 3)
    assert math.isnan(agreement(collect(TABLE, ['mIoU'], [])).tau)


def test_rows_without_a_published_score_are_not_compared() -> None:
    scores = collect(TABLES['table6'], ['mIoU'], [outcome(run, 0, mIoU=0.5) for run in ('performer', DEFAULT_RUN)])
    assert agreement(scores).pairs == 0, 'the paper has no mIoU for the Performer'


def test_write_tables_writes_all_files(tmp_path: Path) -> None:
    write_tables(tmp_path, TABLE, SEGMENTATION.metrics, some_outcomes(), {'weights': 'every row <from> scratch'})
    assert sorted(path.name for path in tmp_path.iterdir()) == ['index.html', 'plot.png', 'table.csv', 'table.md']
    lines = (tmp_path / 'table.md').read_text().splitlines()
    assert '| w/o shifting | 80.2 | 43.3 | -2.8 | 49.00 ± 1.73 | -3.00 ± 1.00 | 3 |' in lines
    assert '| shifted windows | 81.3 | 46.1 | – | 52.00 ± 2.00 | – | 3 |' in lines
    assert '| abs. pos. | 80.5 | 43.2 | -2.9 | not run | – | 0 |' in lines
    assert '- runs: 7 of 9 finished' in lines and '- weights: every row <from> scratch' in lines
    rows = list(csv.DictReader((tmp_path / 'table.csv').open()))
    assert len(rows) == 7 and rows[0]['values'] == '47.0000 50.0000 50.0000' and rows[0]['deviation'] == '1.7321'
    assert rows[2]['state'] == 'failed' and rows[2]['deviation'] == '' and rows[3]['mean'] == ''
    text = (tmp_path / 'index.html').read_text()
    reader = Reader()
    reader.feed(text)
    assert not reader.open and all(address.startswith(('data:', '#')) for address in reader.addresses)
    assert '49.00 ± 1.73' in text and 'exit code 1, see &lt;log&gt;' in text and '&lt;from&gt;' in text
    assert (tmp_path / 'plot.png').read_bytes().startswith(b'\x89PNG')


def test_detection_tables_have_two_metrics(tmp_path: Path) -> None:
    runs = [outcome(DEFAULT_RUN, 0, bbox_mAP=0.4, segm_mAP=0.3), outcome('performer', 0, bbox_mAP=0.2, segm_mAP=0.1)]
    scores = write_tables(tmp_path, TABLES['table6'], TASKS['detection'].metrics, runs, {})
    assert len(scores) == 2 * len(TABLES['table6'].rows)
    text = (tmp_path / 'table.md').read_text()
    assert '| Performer | 79.0 | – | – | 20.00 | -20.00 | – | – | 10.00 | -20.00 | 1 |' in text


def test_table9_compares_optimizers_of_the_same_network(tmp_path: Path) -> None:
    table = TABLES['table9']
    runs = [
        outcome(run, 0, bbox_mAP=v) for run, v in (('r50-sgd', 0.4), ('r50-adamw', 0.42), ('x101-64x4d-adamw', 0.5))
    ]
    scores = write_tables(tmp_path, table, table.task.metrics, runs, {})
    box = {score.run: score for score in scores if score.metric == 'bbox_mAP'}
    assert [run for run, score in box.items() if score.is_default] == ['r50-sgd', 'x101-32x4d-sgd', 'x101-64x4d-sgd']
    assert box['r50-adamw'].difference.values == pytest.approx((2.0,)) and not box['x101-64x4d-adamw'].difference.values
    assert box['x101-64x4d-adamw'].paper_difference == pytest.approx(-0.5)
    text = (tmp_path / 'table.md').read_text()
    assert '| R-50, AdamW | 46.3 | +1.3 | 42.00 | +2.00 | 64.3 | +1.4 |' in text and 'ImageNet' not in text


def test_ratios_of_the_published_times_equal_those_in_the_papers_text() -> None:
    """Section 4.4: 40.8, 20.2, 9.3, 7.6 times the naive; 2.5, 2.5, 2.1, 1.8 times the kernel; 13% over padding."""
    methods = {method.name: method for method in METHODS}
    stages, networks = ([Column('', i, network, {}) for i in range(4 - network)] for network in (False, True))
    naive, kernel = ([round(stage.ratios(methods[f'sliding-{kind}'])[0], 1) for stage in stages]
                     for kind in ('naive', 'kernel'))  # fmt: skip
    assert naive == [40.8, 20.2, 9.3, 7.6] and kernel == [2.5, 2.5, 2.1, 1.8]
    padding = [round(network.ratios(methods['shifted-padding'])[0], 2) for network in networks]
    assert padding == [1.13, 1.18, 1.18]


def timings(values: dict[str, float]) -> dict[str, Timing]:
    return {name: Timing('part', name, value, (value, value), 1.0) for name, value in values.items()}


def speeds() -> Speeds:
    protocol = make_protocol(None, ['tiny'], [64, 64], 2, None, 1, 2, demo=False)
    found = Speeds(protocol, environment('cpu'), left_out={'performer': 'it cannot be built: no.'})
    values = {'shifted-cyclic': 2.0, 'sliding-naive': 50.0, 'shifted-padding': 3.0}
    found.columns = [Column(f'S{i + 1}', i, False, timings(values)) for i in range(4)]
    found.columns.append(Column('Swin-T', 0, True, timings(values)))
    return found


def test_ratios_are_relative_to_the_shifted_windows() -> None:
    methods = {method.name: method for method in METHODS}
    for column in speeds().columns:
        assert column.ratios(methods['sliding-naive'])[1] == 25.0
        assert math.isnan(column.ratios(methods['performer'])[1])


def test_write_speed_writes_all_files(tmp_path: Path) -> None:
    text = write_speed(tmp_path, speeds())
    names = ['index.html', 'plot.png', 'table.csv', 'table.json', 'table.md']
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert text == (tmp_path / 'table.md').read_text()
    assert '| shifted window (cyclic) | 3.0 | 2.0 | 1.9 | 2.0 | 1.3 | 2.0 | 1.0 | 2.0 | 755 | 1000.0 |' in text
    assert '| sliding window (naive) | 40.83 | 25.00 |' in text and '2 x 3 x 64 x 64, float32' in text
    assert 'over sliding window (naive), here (and in the paper): S1 25.00 (40.83)' in text
    assert '- performer was skipped: it cannot be built: no\n' in text
    rows = list(csv.DictReader((tmp_path / 'table.csv').open()))
    assert rows[0]['relative_time'] == '25.0000' and rows[4]['images_per_second'] == '40.000'
    content = json.loads((tmp_path / 'table.json').read_text())
    assert content['protocol']['methods'] == [method.name for method in METHODS] and len(content['timings']) == 15
    reader = Reader()
    reader.feed((tmp_path / 'index.html').read_text())
    assert not reader.open and all(address.startswith(('data:', '#')) for address in reader.addresses)


def test_every_row_has_a_valid_backbone_and_every_method_a_row() -> None:
    for table in TABLES.values():
        for row in table.rows:
            small = dict(variant=None, embed_dim=16, depths=(1,), num_heads=(1,), out_indices=(0,))
            assert SwinTransformer(**small, **row.options)(torch.randn(1, 3, 32, 32))[0].shape == (1, 16, 8, 8)
    assert sorted(method.name for method in METHODS) == sorted(ALL_METHODS)


def test_make_protocol_fills_in_defaults() -> None:
    small, usual = (make_protocol(None, None, None, None, None, None, None, demo) for demo in (True, False))
    assert small.variants == usual.variants == ('tiny', 'small', 'base') and small.shape == (224, 224)
    if not torch.cuda.is_available():
        assert (small.batch, usual.batch, usual.warm_up, usual.rounds) == (1, 8, 2, 9)
    chosen = make_protocol(['performer'], ['base'], None, 3, 'bfloat16', 0, 1, demo=False)
    assert [method.name for method in chosen.methods] == ['performer', 'shifted-cyclic'] and chosen.variants == (
        'base',
    )


def test_self_attention_applies_only_the_attention_of_a_stage() -> None:
    stage = SwinTransformer('tiny').eval().layers[0]
    x, plan = torch.randn(1, 9, 10, 96), WindowPlan(9, 10, (7, 7))
    expected = stage.blocks[1].attn(stage.blocks[0].attn(x, plan, False), plan, True)
    torch.testing.assert_close(SelfAttention(stage)(x)[0], expected)


def test_a_method_that_cannot_be_built_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    build = ablation_speed.SwinTransformer

    def broken(variant: str, attention_method: str, **options: Any) -> Any:
        if attention_method != 'shifted-cyclic':
            raise ImportError('no such kernel')
        return build(variant, **options)

    monkeypatch.setattr(ablation_speed, 'SwinTransformer', broken)
    found = ablation_speed.measure(make_protocol(['window'], ['tiny'], [32, 32], 1, None, 0, 1, False), lambda _: None)
    assert found.left_out == {'window': 'it cannot be built: no such kernel'}
    assert [list(column.timings) for column in found.columns] == [['shifted-cyclic']] * 5


def test_table5_imports_no_toolkit(tmp_path: Path) -> None:
    """Table 5 only needs torch: neither its command nor its pages import OpenMMLab."""
    program = (
        'import sys\n'
        'from pathlib import Path\n'
        'from swin_backbone.cli import ablate\n'
        'from swin_backbone.ablations import pages, speed\n'
        "protocol = speed.make_protocol(['window'], ['tiny'], [32, 32], 1, None, 0, 1, True)\n"
        'pages.write_speed(Path(sys.argv[1]), speed.measure(protocol, print))\n'
        "found = {name.partition('.')[0] for name in sys.modules} & {'mmengine', 'mmcv', 'mmdet', 'mmseg'}\n"
        'sys.exit(f"imported: {found}" if found else 0)\n'
    )
    command = [sys.executable, '-c', program, str(tmp_path)]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    assert (tmp_path / 'index.html').is_file()
