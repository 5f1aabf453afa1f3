"""The rows of the Swin paper's Tables 1 and 8: networks and the command; times are not checked."""

import json
from pathlib import Path

import pytest

from swin_backbone.benchmark import throughput
from swin_backbone.benchmark.plot import attention_costs
from swin_backbone.cli import benchmark
from swin_backbone.errors import InputError
from swin_backbone.model_zoo.complexity import measure_backbone

FLOPS = {'swin-t-224': 4.5, 'swin-s-224': 8.7, 'swin-b-224': 15.4, 'swin-b-384': 47.0, 'swin-l-384': 103.9}
"""10^9 multiply-adds in Table 1."""


def test_rows_equal_those_of_the_paper() -> None:
    names = [network.name for network in throughput.OURS]
    assert names[:4] == ['swin-t-224', 'swin-t-256', 'swin-t-320', 'swin-t-384'] and len(names) == 13
    assert throughput.NETWORKS['swin-b-384'].paper == 84.7 and throughput.NETWORKS['swin-s-320'].paper == 198.2
    assert [n.name for n in throughput.choose(['deit-b-384'])] == ['swin-t-224', 'deit-b-384']
    with pytest.raises(InputError, match='unknown row vgg: use swin-t-224'):
        throughput.choose(['vgg'])


@pytest.mark.parametrize('name', FLOPS)
def test_multiply_adds_equal_those_of_the_paper(name: str) -> None:
    network = throughput.NETWORKS[name]
    cost = measure_backbone(network.variant, 1, (network.size, network.size), network.window)
    assert cost.flops / 1e9 == pytest.approx(FLOPS[name], abs=0.1)


def test_throughput_command_prints_and_writes_results(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / 'speed.json'
    benchmark.main(['throughput', '--rows', 'swin-t-224', '--rounds', '1', '--warm-up', '0', '--json', str(file)])
    assert '| Swin-T | 224 x 224 | 1, 8 | 755.2 |' in capsys.readouterr().out
    content = json.loads(file.read_text())
    assert [row['name'] for row in content['timings']] == ['swin-t-224'] and content['timings'][0]['paper'] == 755.2


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['throughput', '--rounds', '0'], 'must be at least 1'),
        (['--batch', '1', 'throughput'], 'put throughput first'),
    ],
)
def test_invalid_throughput_options_raise_input_error(arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        benchmark.main(arguments)


def test_global_attention_grows_with_the_square_of_the_area() -> None:
    small, large = (attention_costs((side, side), 'tiny', 1).values() for side in (896, 1792))
    (whole, windows), (whole_4, windows_4) = small, large
    assert windows_4 / windows == pytest.approx(4.0) and 12 < whole_4 / whole < 16
