"""The benchmark on small images: rows and files; times are not checked."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from swin_backbone import SwinTransformer
from swin_backbone.benchmark import implementations, timing
from swin_backbone.cli import benchmark
from swin_backbone.errors import InputError
from tests.conftest import REPOSITORY
from tests.helpers import relative_error

OURS = ['swin_backbone (eager)', 'swin_backbone (sdpa)']
SMALL = ['--shape', '64', '64', '--warm-up', '0', '--rounds', '2']
THIN = ['--variant', 'tiny-c24', *SMALL]
COLUMNS = {'part', 'name', 'median_ms', 'quartiles_ms', 'ratio', 'peak_bytes'}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip PyTorch's initialisation, which the models overwrite, and garbage collection."""
    monkeypatch.setattr(torch.nn.init, 'kaiming_uniform_', lambda tensor, *_, **__: torch.nn.init.zeros_(tensor))
    monkeypatch.setattr(timing.gc, 'collect', lambda: 0)


def call(tmp_path: Path, *options: str) -> dict[str, Any]:
    """Run the command in this process, and read the file that it writes."""
    benchmark.main([*options, '--json', str(tmp_path / 'speed.json')])
    return json.loads((tmp_path / 'speed.json').read_text())


@pytest.mark.parametrize('extra', [[], ['--train'], ['--dtype', 'bfloat16']])
def test_backbone_benchmark_compares_with_mmdet(
    extra: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip('mmdet')
    content = call(tmp_path, 'backbone', '--against', 'mmdet', *THIN, *extra)
    assert [row['name'] for row in content['timings']] == ['mmdet', *OURS]
    assert all(set(row) == COLUMNS and row['part'] == 'backbone' for row in content['timings'])
    assert content['train'] == ('--train' in extra) and content['timings'][0]['ratio'] == 1.0
    assert content['environment']['versions']['torch'] and content['environment']['threads'] >= 1
    assert 'times as fast' in capsys.readouterr().out


@pytest.mark.parametrize('name', implementations.BUILDERS)
def test_every_installed_implementation_runs(name: str) -> None:
    pytest.importorskip(name)
    found = implementations.find_backbones('tiny', 1, (64, 64), [name], 'cpu')
    assert list(found.models) == [name, *OURS] and not found.left_out
    for train in (False, True):
        calls = dict.fromkeys(found.models, implementations.maps_of)
        steps = implementations.make_steps(found, calls, torch.randn(1, 3, 64, 64), torch.float32, train)
        _, failed = timing.runnable(steps)
        assert not failed


@pytest.mark.parametrize('name', implementations.BUILDERS)
def test_other_implementations_have_no_stochastic_depth(name: str) -> None:
    pytest.importorskip(name)
    model = implementations.BUILDERS[name]('tiny', 1, (64, 64))
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    image = torch.randn(2, 3, 64, 64)
    for first, second in zip(implementations.maps_of(model, image), implementations.maps_of(model, image), strict=True):
        torch.testing.assert_close(first, second)


def test_only_requested_implementations_are_imported() -> None:
    pytest.importorskip('timm')
    code = """
import sys
from swin_backbone.cli import benchmark
benchmark.main(['backbone', '--against', 'timm', '--shape', '64', '64', '--rounds', '1', '--warm-up', '0'])
print({name for name in ('mmengine', 'mmcv', 'mmdet', 'mmseg', 'transformers') if sys.modules.get(name)})
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert '| timm |' in done.stdout and done.stdout.endswith('\nset()\n')


def test_mmdet_can_be_built_in_a_new_process() -> None:
    pytest.importorskip('mmdet')
    code = "from swin_backbone.benchmark.implementations import BUILDERS; BUILDERS['mmdet']('tiny', 1, (64, 64))"
    subprocess.run([sys.executable, '-c', code], capture_output=True, check=True)


def test_compile_option_compiles_every_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip('timm')
    compiled: list[str] = []
    monkeypatch.setattr(torch.nn.Module, 'compile', lambda module: compiled.append(type(module).__name__))
    assert call(tmp_path, 'backbone', '--against', 'timm', *SMALL, '--compile')['compile']
    assert compiled == ['FeatureListNet', 'SwinTransformer']


def test_areas_option_writes_a_plot(tmp_path: Path) -> None:
    plot = tmp_path / 'areas.png'
    content = call(tmp_path, 'backbone', '--against', 'timm', '--areas', '0.006', '0.02', '--plot', str(plot), *SMALL)
    assert {row['part'] for row in content['timings']} == {'64 x 96', '128 x 160'}
    assert plot.read_bytes().startswith(b'\x89PNG')


@pytest.mark.skipif(not timing.RESET_PEAK.exists(), reason='peak memory is measured only on Linux')
def test_peak_memory_measures_a_large_tensor() -> None:
    peaks = timing.peak_memory({'large': lambda: torch.ones(30_000_000).sum()}, 'cpu')
    assert 100e6 < peaks['large'] < 200e6


def test_attention_benchmark_times_every_stage(tmp_path: Path) -> None:
    pytest.importorskip('mmdet')
    content = call(tmp_path, 'attention', '--against', 'mmdet', *THIN)
    assert [row['part'] for row in content['timings']] == [f'stage {i}' for i in (1, 2, 3, 4) for _ in range(3)]


def test_parts_of_a_whole_model_sum_to_its_time(tmp_path: Path) -> None:
    pytest.importorskip('mmdet')
    config = str(REPOSITORY / 'configs/detection/cascade_swin_demo.py')
    content = call(tmp_path, 'model', '--config', config, '--against', 'mmdet', 'timm', *SMALL[:-1], '1')
    for name in OURS:
        spent = {row['part']: row['median_ms'] for row in content['timings'] if row['name'] == name}
        assert spent.pop('whole') == pytest.approx(sum(spent.values()))
        assert set(spent) == {'backbone', 'neck and heads', 'post-processing'}
    assert 'timm' in content['left_out']


def test_version_2_skips_the_toolkits(tmp_path: Path) -> None:
    content = call(tmp_path, 'backbone', '--against', 'mmdet', '--version', '2', *SMALL[:-1], '1')
    assert [row['name'] for row in content['timings']] == OURS and 'mmdet' in content['left_out']


def test_share_weights_gives_equal_maps() -> None:
    pytest.importorskip('mmdet')
    ours = SwinTransformer('tiny', drop_path_rate=0.0).eval()
    stock = implementations.BUILDERS['mmdet']('tiny', 1, (64, 64))
    implementations.share_weights(ours, stock)
    stock.eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(ours(image), stock(image), strict=True):
            assert relative_error(a, b) < 1e-5


def test_ratios_are_relative_to_the_first_implementation() -> None:
    rows = timing.compare({'a': [10.0, 10.0, 10.0], 'b': [4.0, 5.0, 6.0]})
    assert [row.ratio for row in rows] == [1.0, 2.0]


def test_rotate_order_starts_with_another_name_in_each_round() -> None:
    assert [timing.rotate_order(['a', 'b', 'c'], number) for number in range(2)] == [['a', 'b', 'c'], ['b', 'c', 'a']]


def test_runnable_returns_failures_with_their_reasons() -> None:
    good, failed = timing.runnable({'good': lambda: None, 'bad': lambda: 1 // 0})
    assert list(good) == ['good'] and 'ZeroDivisionError' in failed['bad']


@pytest.mark.parametrize(
    'options',
    [
        ['backbone', '--against', 'reference'],
        ['backbone', '--variant', 'huge'],
        ['backbone', '--rounds', '0'],
        ['backbone', '--config', 'configs/detection/cascade_swin_demo.py'],
        ['model', '--train'],
        ['attention', '--compile'],
        ['attention', '--areas', '1'],
        ['backbone', '--plot', 'areas.png'],
    ],
)
def test_incompatible_options_raise_input_error(options: list[str], tmp_path: Path) -> None:
    with pytest.raises(InputError):
        call(tmp_path, *options)
