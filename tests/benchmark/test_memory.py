"""The benchmark of memory over a long training: measurements and report."""

import json
from pathlib import Path

import pytest
import torch

from swin_backbone.attention.window_plan import CONSTANTS, TensorCache
from swin_backbone.benchmark import memory
from swin_backbone.cli import benchmark
from swin_backbone.datasets.shapes import ShapesSpec, write_shapes
from swin_backbone.errors import InputError
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.skipif(not memory.OPEN_FILES.is_dir(), reason='memory is read from /proc, only on Linux')


def test_memory_of_a_backbone_is_recorded(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    files = ['--plot', str(tmp_path / 'memory.png'), '--json', str(tmp_path / 'memory.json')]
    benchmark.main(['memory', '--iterations', '3', '--sides', '8', '40', *files])
    samples = json.loads((tmp_path / 'memory.json').read_text())['samples']
    assert len(samples) == 3 and all(sample['memory'] > 50e6 and sample['workers'] == 0 for sample in samples)
    assert (tmp_path / 'memory.png').read_bytes().startswith(b'\x89PNG')
    assert '| memory, MiB |' in capsys.readouterr().out


def test_workers_and_files_are_released_after_a_run(tmp_path: Path) -> None:
    pytest.importorskip('mmseg')
    write_shapes(tmp_path, ShapesSpec(train_count=4, val_count=1, width=32, height=32, object_size=(8, 16)))
    before = memory.usage()
    config = str(REPOSITORY / 'configs/segmentation/upernet_swin_demo.py')
    *during, after = memory.train_config(config, str(tmp_path), 1, 3)
    assert [sample.workers for sample in during] == [1, 1, 1] and after.workers == 0
    assert after.files <= before.files + 1


def test_table_compares_start_and_end() -> None:
    found = [memory.Usage(2**20 * (100 if i < 60 else 200), 0, 7 + (i == 55), 2) for i in range(110)]
    table = memory.as_table(found)
    assert '| memory, MiB | 100.0 | 200.0 | 200.0 |' in table and '| open files | 7.0 | 7.0 | 8.0 |' in table


def test_cached_masks_stay_below_the_limit() -> None:
    cache = TensorCache(1000)
    for size in range(1, 100):
        cache.get(torch.zeros(1), torch.zeros, size)
        assert cache.cached_bytes <= 1000
    assert CONSTANTS.cached_bytes <= CONSTANTS.max_bytes


@pytest.mark.parametrize('options', [['--iterations', '0'], ['--sides', '9', '8'], ['--workers', '-1']])
def test_invalid_memory_options_raise_input_error(options: list[str]) -> None:
    with pytest.raises(InputError, match='--iterations must be at least 1'):
        benchmark.main(['memory', *options])
