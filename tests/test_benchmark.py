"""The benchmark runs on a small picture and says what it promises; no time is judged."""

import importlib.util
import json
from pathlib import Path

import pytest

from swin_backbone.errors import InputError
from swin_backbone.reports import speed
from tests.conftest import REPOSITORY


def load_tool():
    spec = importlib.util.spec_from_file_location('benchmark_tool', REPOSITORY / 'tools' / 'benchmark.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize('extra', [[], ['--train']])
def test_backbone_against_stock(extra: list[str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip('mmdet')
    out = tmp_path / 'speed.json'
    options = ['--shape', '64', '64', '--warm-up', '0', '--rounds', '2', '--json', str(out)]
    load_tool().main(['backbone', *options, *extra])
    content = json.loads(out.read_text())
    assert [row['name'] for row in content['timings']] == ['mmdet', 'swin_backbone (eager)', 'swin_backbone (sdpa)']
    assert content['train'] == bool(extra) and content['timings'][0]['ratio'] == 1.0
    assert 'times as fast' in capsys.readouterr().out


def test_ratios_are_against_the_first() -> None:
    rows = speed.compare({'a': [10.0, 10.0, 10.0], 'b': [4.0, 5.0, 6.0]})
    assert [row.ratio for row in rows] == [1.0, 2.0]


@pytest.mark.parametrize('options', [['--against', 'theirs'], ['--variant', 'huge'], ['--rounds', '0']])
def test_impossible_requests_are_refused(options: list[str]) -> None:
    with pytest.raises(InputError):
        load_tool().main(['backbone', *options])
