"""The cost of every config compared with the published one, and the page with both."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

import mmdet

from swin_backbone.cli import complexity as complexity_command
from swin_backbone.errors import InputError
from swin_backbone.model_zoo import page as model_zoo
from swin_backbone.model_zoo.complexity import default_shape, measure, run_network
from swin_backbone.model_zoo.page import LABELS, Entry, read_notes
from swin_backbone.model_zoo.published import PUBLISHED
from tests.commands import call
from tests.conftest import REPOSITORY
from tests.model_zoo import counted_configs

DOCS = REPOSITORY / 'docs'
IS_FORK = mmdet.__version__ >= '3.4'
"""Whether MMDetection is onedl-mmdetection, whose DINO has a larger layer for reference points."""


@pytest.fixture(scope='module')
def entries() -> dict[str, Entry]:
    return {name: counted_configs.entry(name) for name in counted_configs.PATHS}


def test_costs_equal_the_published_ones(entries: dict[str, Entry]) -> None:
    assert PUBLISHED.keys() <= entries.keys()
    for name, published in PUBLISHED.items():
        cost = entries[name].cost
        assert abs(cost.params / published.params - 1) < 0.015, name
        if published.flops and not published.remark:
            assert abs(cost.flops / published.flops - 1) < 0.02, name


def test_published_numbers_that_differ_are_explained(entries: dict[str, Entry]) -> None:
    remarks = [name for name, published in PUBLISHED.items() if published.remark]
    assert set(remarks) == {'mask_reppoints_v2_swin_t_3x', 'upernet_swin_l_640_160k', 'danet_r101_160k'}
    products = (64 * 256) ** 2 * (64 + 512)  # for all pairs of tokens at stride 8
    assert entries['danet_r101_160k'].cost.flops - products == pytest.approx(1119e9, rel=0.01)
    masks, boxes = (entries[f'{name}_v2_swin_t_3x'].cost for name in ('mask_reppoints', 'reppoints'))
    branch = 21_000 * 256 * 128 * 9 + 16_000 * (4 * 128 * 128 * 9 + 128 * 8)
    controller = (16_000 + 4_000 + 1_000 + 260 + 70) * 256 * 169 * 9
    assert masks.flops - boxes.flops == branch + controller
    assert masks.flops - branch == pytest.approx(292e9, rel=0.01)
    assert entries['upernet_swin_l_640_160k'].cost.flops == pytest.approx(2482.3e9, rel=1e-4)


def test_cost_of_cascade_swin_t_equals_the_sum_of_its_parts(entries: dict[str, Entry]) -> None:
    """148.65 backbone and FPN + 50.62 RPN + 386.58 boxes + 3 * 52.99 masks, computed manually for MMDetection."""
    cost = entries['cascade_swin_t_3x'].cost
    assert cost.shape == (800, 1280)
    assert cost.params / 1e6 == pytest.approx(85.63, abs=0.005)
    assert cost.flops / 1e9 == pytest.approx(744.80, abs=0.01)


def test_image_sizes_are_those_of_the_papers(entries: dict[str, Entry]) -> None:
    for name, entry in entries.items():
        crop = (896, 3584) if '896' in name else (640, 2560) if '640' in name else (512, 2048)
        expected = crop if entry.path.parent.name == 'segmentation' else (800, 1280)
        assert entry.cost.shape == expected


def test_docstrings_state_the_cost(entries: dict[str, Entry]) -> None:
    for name, entry in entries.items():
        if not (IS_FORK and name.startswith('dino')):
            assert entry.notes.lines.get('Size') == model_zoo.size_text(entry), f'{name}: correct Size in its docstring'


@pytest.mark.skipif(IS_FORK, reason='the pages list the DINO of MMDetection 3.3')
def test_the_pages_are_up_to_date(entries: dict[str, Entry]) -> None:
    for name, text in model_zoo.as_pages(list(entries.values())).items():
        assert (DOCS / name).read_text() == text, 'run `make model-zoo`'


def test_remarks_are_printed_below_the_table(entries: dict[str, Entry]) -> None:
    text = model_zoo.as_text([entries['upernet_swin_l_640_160k'], entries['cascade_swinv2_t_3x']])
    heading, first, second, remark = text.splitlines()
    assert len(heading) == len(first) == len(second)
    assert '3230G   -23.1%' in first
    assert second.count(' -') == 4
    assert 'this network costs 2482G' in remark


@pytest.mark.parametrize('backend', ['sdpa', 'eager'])
@pytest.mark.parametrize('version', [1, 2])
def test_the_cost_does_not_depend_on_the_attention_backend(backend: str, version: int) -> None:
    config = counted_configs.config('atss_swin_t_3x')
    config.model.backbone.update(version=version, window_size=7)
    costs = []
    for name in ('auto', backend):
        config.model.backbone.backend = name
        costs.append(measure(config, (96, 96)).flops)
    assert costs[0] == costs[1]
    # Stage 1 has 24 x 24 tokens, padded to 28 x 28, in windows of 49: two products of 49 x 96 for each token.
    attention = 2 * 28 * 28 * 49 * 96
    deeper = config.copy()
    deeper.model.backbone.update(depths=(4, 2, 6, 2))
    one_block = 28 * 28 * 4 * 96 * 96 + 24 * 24 * 8 * 96 * 96 + attention
    bias = 13 * 13 * 512 * (2 + 3) if version == 2 else 0
    assert measure(deeper, (96, 96)).flops - costs[0] == 2 * (one_block + bias)


def test_counting_does_not_patch_classes(entries: dict[str, Entry]) -> None:
    from mmcv.ops import DeformConv2d

    from swin_backbone.attention.window import WindowAttention

    for kind in (DeformConv2d, WindowAttention):
        assert kind.forward.__module__.startswith(('mmcv', 'swin_backbone.attention.window'))


def test_the_auxiliary_head_is_only_included_in_the_parameters(entries: dict[str, Entry]) -> None:
    config = counted_configs.config('upernet_swin_t_160k')
    del config.model['auxiliary_head']
    bare, whole = measure(config), entries['upernet_swin_t_160k'].cost
    assert bare.flops == whole.flops
    assert whole.params - bare.params == 384 * 256 * 9 + 2 * 256 + 256 * 150 + 150


def test_other_image_sizes_and_channels_are_counted() -> None:
    config = counted_configs.config('atss_swin_t_3x')
    small = measure(config, (64, 96))
    config.model.backbone.in_channels = 5
    assert measure(config, (64, 96)).flops - small.flops == 16 * 24 * 96 * 16 * 2
    assert default_shape(config) == (800, 1280)


@pytest.mark.parametrize('shape', [(0, 64), (64, -1)])
def test_impossible_image_sizes_are_an_error(shape: tuple[int, int]) -> None:
    with pytest.raises(InputError, match='impossible'):
        measure(counted_configs.config('atss_swin_t_3x'), shape)


def test_unknown_networks_are_an_error() -> None:
    with pytest.raises(InputError, match='cannot count a Sequential'):
        run_network(torch.nn.Sequential(), torch.empty(1, 3, 8, 8))


def test_notes_join_continued_lines(tmp_path: Path) -> None:
    path = tmp_path / 'c.py'
    path.write_text('"""A title.\n\nSource: one\ntwo.\nOurs: three: four.\n"""\n')
    notes = read_notes(path)
    assert notes.title == 'A title'
    assert notes.lines == {'Source': 'one two.', 'Ours': 'three: four.'}
    assert set(notes.lines) <= set(LABELS)


def test_the_command_prints_json() -> None:
    path = 'configs/detection/atss_swin_t_3x.py'
    result = call('complexity', path, '--json')
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == [
        dict(
            config=path,
            shape=[800, 1280],
            params=35_734_356,
            flops=pytest.approx(214.35e9, rel=1e-4),
            paper_params=36_000_000,
            paper_flops=215_000_000_000,
        )
    ]


@pytest.mark.parametrize(('option', 'begin'), [('--json', '['), (None, 'config ')])
def test_output_of_packages_goes_to_stderr(
    option: str | None, begin: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def chatter(path: Path, shape: object) -> Entry:
        print('Could not import something')
        return counted_configs.entry(path.stem)

    monkeypatch.setattr(model_zoo, 'make_entry', chatter)
    complexity_command.main(['configs/detection/atss_swin_t_3x.py', *filter(None, [option])])
    captured = capsys.readouterr()
    assert captured.out.startswith(begin)
    assert captured.err.endswith('Could not import something\n')  # the forks print similar messages


@pytest.mark.parametrize('args', [['absent.py'], ['pyproject.toml'], ['configs/detection/_base_/runtime.py']])
def test_bad_input_is_reported_in_one_line(args: list[str]) -> None:
    result = call('complexity', *args)
    assert result.returncode == 2
    assert result.stdout == ''
    assert result.stderr.count('\n') == 1


def test_a_backbone_is_counted_without_importing_the_toolkits() -> None:
    code = """
import sys
from swin_backbone.cli import complexity
complexity.main(['--variant', 'tiny'])
print({'mmengine', 'mmcv', 'mmdet', 'mmseg'} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout == '27.52M parameters, 4.49G multiply-adds at 224x224\nset()\n'
